"""The answers that the starter model learns are right: checked against the prompts by other means than made them."""

import json
import re
from collections.abc import Callable
from random import Random

import pytest
from text import words
from text.arithmetic import held_pair
from text.kit import Draw, Pool, an, is_held, listed, low, normalise, words_of
from text.words import ENDS, ITEMS, MEN, SURNAMES, TOWNS, WOMEN

from .conftest import Text

SUM = re.compile(r"^(\d+) ([+*-]) (\d+) = (\d+)\.$")


def exchanges(rows: list[dict]) -> list[tuple[str, str]]:
    """Each user message with the answer that follows it."""
    pairs = []
    for row in rows:
        turns = [m["content"] for m in row["messages"] if m["role"] != "system"]
        pairs += list(zip(turns[::2], turns[1::2], strict=True))
    return pairs


def sums(rows: list[dict]) -> list[tuple[str, re.Match[str]]]:
    return [(user, found) for user, answer in exchanges(rows) if (found := SUM.match(answer))]


def result(a: int, sign: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def test_sums_are_right_and_about_the_numbers_of_the_question(text: Text):
    found = sums(text.train + text.held_out)
    assert len(found) > 1500
    for user, match in found:
        a, sign, b, total = int(match[1]), match[2], int(match[3]), int(match[4])
        assert result(a, sign, b) == total
        assert 0 <= total <= 100
        assert sorted(map(int, re.findall(r"\d+", user))) == sorted((a, b))


def test_held_out_sums_are_not_trained(text: Text):
    trained = {(match[1], match[2], match[3]) for _, match in sums(text.train)}
    held = {(match[1], match[2], match[3]) for _, match in sums(text.of("arithmetic"))}
    assert len(held) > 15
    assert not trained & held
    assert all(held_pair(int(a), int(b), sign) for a, sign, b in held)


def test_small_sums_are_held_out_in_one_order_only():
    for a in range(11):
        for b in range(11):
            for sign in "+*":
                assert not (held_pair(a, b, sign) and held_pair(b, a, sign))


def test_comparisons_are_right(text: Text):
    checked = 0
    for user, answer in exchanges(text.train):
        if match := re.match(r"^(\d+) is (\w+) than (\d+)\.$", answer):
            first, second = int(match[1]), int(match[3])
            assert (first > second) == (match[2] in {"larger", "bigger", "greater"})
            assert set(re.findall(r"\d+", user)) == {match[1], match[3]}
            checked += 1
    assert checked > 100


def extractions(rows: list[dict]) -> list[tuple[str, dict]]:
    return [(user, json.loads(answer)) for user, answer in exchanges(rows) if answer.startswith("{")]


def test_json_values_are_copied_from_the_prompt(text: Text):
    found = extractions(text.train)
    assert len(found) > 1000
    for user, record in found:
        for value in record.values():
            assert value is None or re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", user), (user, record)


def test_json_has_exactly_the_keys_asked_for_in_their_order(text: Text):
    for user, record in extractions(text.train + text.held_out):
        assert ", ".join(record) in user
    assert any(None in record.values() for _, record in extractions(text.train))


def test_reading_answers_use_words_of_the_passage(text: Text):
    unsaid = 0
    for row in text.of("reading"):
        answer = row["messages"][-1]["content"]
        if answer == "The passage does not say.":
            unsaid += 1
            continue
        passage = set(normalise(row["messages"][0]["content"]).split())
        assert len(set(normalise(answer).split()) - passage - {"at", "by", "on", "in", "a", "an", "the"}) == 0, row
    assert 1 <= unsaid <= 20


def test_labels_come_from_the_prompt_or_are_other(text: Text):
    for row in text.of("classify"):
        prompt, label = row["messages"][0]["content"], row["messages"][1]["content"]
        assert label in prompt.lower() or label == "other"


def test_classification_has_every_sentiment(text: Text):
    labels = {row["messages"][1]["content"] for row in text.of("classify")}
    assert {"positive", "negative", "neutral"} <= labels


@pytest.mark.parametrize("skill", ["arithmetic", "decline", "freehold", "persona", "reading", "smalltalk", "unknown"])
def test_answers_in_sentences_are_whole(skill: str, text: Text):
    assert all(row["messages"][-1]["content"].endswith((".", "!", "?")) for row in text.of(skill))


def test_people_in_need_are_pointed_to_help(text: Text):
    care = {answer for user, answer in exchanges(text.train) if "want to die" in user}
    assert care
    assert all("emergency number" in answer and answer.endswith("You are not alone.") for answer in care)


def test_persona_answers_stand_in_the_system_message(text: Text):
    for row in text.of("persona"):
        system, answer = row["messages"][0]["content"], row["messages"][-1]["content"]
        assert all(number in system for number in re.findall(r"\d[\d:]*", answer))


def matching(text: Text, pattern: str) -> list[tuple[re.Match[str], str]]:
    found = [(re.match(pattern, user, re.DOTALL), answer) for user, answer in exchanges(text.train)]
    return [(match, answer) for match, answer in found if match]


def test_upper_and_lower_case(text: Text):
    up = matching(text, r"^(?:Uppercase|Put this in upper case): (.+)$")
    down = matching(text, r"^(?:Lowercase|Put this in lower case): (.+)$")
    assert len(up) > 10
    assert len(down) > 10
    assert all(answer == match[1].upper() for match, answer in up)
    assert all(answer == match[1].lower() for match, answer in down)


def test_lists_are_sorted_and_reversed(text: Text):
    ordered = matching(text, r"^(?:Sort alphabetically|Alphabetical order, please): (.+)$")
    backwards = matching(text, r"^(?:Reverse this list|Reverse the order): (.+)$")
    assert len(ordered) > 10
    assert len(backwards) > 10
    assert all(answer.split(", ") == sorted(match[1].split(", ")) for match, answer in ordered)
    assert all(answer.split(", ") == match[1].split(", ")[::-1] for match, answer in backwards)


def test_longer_and_shorter_words(text: Text):
    found = matching(text, r"^Which word is (longer|shorter): (\w+) or (\w+)\?$")
    assert len(found) > 5
    for match, answer in found:
        assert answer == {"longer": max, "shorter": min}[match[1]](match[2], match[3], key=len)


def test_things_are_counted_right(text: Text):
    found = matching(text, r"^(?:Count the items|How many items are in this list\?):? (.+)$")
    assert len(found) > 5
    assert all(answer == words_of(len(match[1].split(", "))) for match, answer in found)


def test_polite_forms_keep_the_request(text: Text):
    found = [(match, answer) for match, answer in matching(text, r"^Rewrite politely: (.+?)( now)?[.!]$")]
    assert len(found) > 5
    assert all(answer.endswith("?") and ("please" in answer) for _, answer in found)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (21, "twenty-one"),
        (90, "ninety"),
        (100, "one hundred"),
        (305, "three hundred and five"),
    ],
)
def test_numbers_in_words(number: int, name: str):
    assert words_of(number) == name


def test_every_number_in_words_is_different():
    assert len({words_of(number) for number in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("noun", "full"),
    [
        ("apple", "an apple"),
        ("cup", "a cup"),
        ("hour", "an hour"),
        ("uniform", "a uniform"),
        ("umbrella", "an umbrella"),
    ],
)
def test_articles(noun: str, full: str):
    assert an(noun) == full


def test_lists_and_first_letters():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert low("What is it?") == "what is it?"
    assert low("I am here.") == "I am here."


@pytest.mark.parametrize("pool", [WOMEN, MEN, SURNAMES, TOWNS, ITEMS])
def test_pools_split_without_overlap(pool: Pool):
    assert len(pool.held) >= 2
    assert len(pool.train) > 5 * len(pool.held)
    assert not set(pool.held) & set(pool.train)


def test_word_lists_have_no_doubles():
    for pool in (WOMEN, MEN, SURNAMES, TOWNS, ITEMS):
        both = pool.held + pool.train
        assert len(set(both)) == len(both)
    assert not set(WOMEN.train + WOMEN.held) & set(MEN.train + MEN.held)


def test_held_out_names_are_not_trained(text: Text):
    trained = set(re.findall(r"[A-Z][a-z]+", json.dumps(text.train)))
    for pool in (WOMEN, MEN):
        assert not trained & (set(pool.held) - set(SURNAMES.train))


def test_made_up_names_are_split_by_checksum(text: Text):
    trained = set(re.findall(r"My name is ([A-Z][a-z]+)\.", json.dumps(text.train)))
    invented = {n for n in trained if n not in WOMEN.train + MEN.train and any(n.endswith(end) for end in ENDS)}
    assert invented
    assert not any(is_held(name) for name in invented)


def test_training_invents_slots_and_held_out_rows_do_not():
    pool = words.SPOTS
    assert pool.made is not None
    made = {pool.made(Draw(Random(seed), held=False)) for seed in range(50)}
    assert len(made) > 40
    assert not made & set(pool.train + pool.held)
    held, drawn = Draw(Random(1), held=True), Draw(Random(1), held=False)
    assert {held.slot(pool) for _ in range(200)} == set(pool.held)
    found = {drawn.slot(pool) for _ in range(400)}
    assert not found & set(pool.held)
    assert found - set(pool.train)


@pytest.mark.parametrize("invent", [words.syllables, words.spliced])
def test_no_invented_word_is_rude(invent: Callable[[Draw], str]):
    drawn = Draw(Random(2), held=False)
    made = [invent(drawn) for _ in range(20_000)]
    assert not any(words.RUDE.search(word.lower()) for word in made)
    assert all(word.isalpha() and word[0].isupper() and 2 <= len(word) <= 12 for word in made)


def test_spliced_words_are_cut_from_training_words_alone():
    pools = (WOMEN, MEN, SURNAMES, TOWNS)
    learned = {name for pool in pools for name in pool.train}
    held = {name.lower() for pool in pools for name in pool.held if name not in learned}
    assert not held & set(words.pieces())
