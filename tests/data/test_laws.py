"""What holds for every file and every text: round trips, identities, and draws that look at content alone."""

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold import data
from freehold.core.errors import BadData
from freehold.core.request import Message, ToolCall
from freehold.data.columns import trimmed
from freehold.data.grouping import group_texts
from freehold.data.normal import normal
from freehold.data.readers import unpadded

ANY = st.text(st.characters(codec="utf-8"), max_size=30)
LINES = st.text(st.sampled_from("ab ,;|\t\"'\n\\é漢😀\u2028{}[]"), min_size=1, max_size=20).filter(str.strip)
LABELS = st.text("ab-1", max_size=5)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    ANY,
    st.lists(st.builds(ToolCall, LABELS, LABELS, ANY), max_size=2).map(tuple),
    LABELS,
    LABELS,
)
ROWS = st.lists(st.builds(data.Row, st.lists(MESSAGES, min_size=1, max_size=3).map(tuple)), max_size=6)
PAIRS = st.lists(st.tuples(LINES, LINES), min_size=1, max_size=6)


def _written(pairs: list[tuple[str, str]], name: str, spell: Callable[[list[tuple[str, str]]], str]) -> data.Dataset:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(spell(pairs).encode())
        return data.load(path, minimum=1, repetitions=True)


def _csv(separator: str) -> Callable[[list[tuple[str, str]]], str]:
    def spell(pairs: list[tuple[str, str]]) -> str:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([("question", "answer"), *pairs])
        return out.getvalue()

    return spell


def _objects(pairs: list[tuple[str, str]]) -> list[str]:
    return [json.dumps({"question": question, "answer": answer}) for question, answer in pairs]


@given(PAIRS, st.sampled_from([",", ";", "\t", "|"]))
@settings(max_examples=50)
def test_every_format_says_the_same(pairs: list[tuple[str, str]], separator: str) -> None:
    # Blanks before a text of one line align cells, and indent elsewhere.
    pairs = [(unpadded(question), unpadded(answer)) for question, answer in pairs]
    wanted = [(trimmed(question), trimmed(answer)) for question, answer in pairs]
    found = [
        _written(pairs, "a.csv", _csv(separator)),
        _written(pairs, "a.jsonl", lambda given: "\n".join(_objects(given))),
        _written(pairs, "a.json", lambda given: f"[{','.join(_objects(given))}]"),
    ]
    for dataset in found:
        assert [(row.question, row.answer) for row in dataset.rows] == wanted
    assert len({dataset.digest for dataset in found}) == 1


@given(ROWS)
@settings(max_examples=20)
def test_any_row_comes_back_from_its_canonical_file(rows: list[data.Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        data.write_rows(path, rows)
        again = data.read_rows(path)
        data.write_rows(Path(folder) / "again.jsonl", again)
        assert (Path(folder) / "again.jsonl").read_bytes() == path.read_bytes()
    assert [row.messages for row in again] == [row.messages for row in rows]
    assert [row.line for row in again] == list(range(1, len(rows) + 1))


@given(ROWS, st.randoms(use_true_random=False))
def test_an_identity_is_of_the_conversations_and_nothing_else(rows: list[data.Row], draw: Random) -> None:
    shuffled = [data.Row(row.messages, draw.randrange(100)) for row in rows]
    draw.shuffle(shuffled)
    assert data.digest_rows(shuffled) == data.digest_rows(rows)
    one = data.Row((Message("user", "one more"), Message("assistant", "indeed")))
    more = [*rows, one]
    assert len({data.digest_rows(each) for each in (rows, more, [*more, one])}) == 3


@given(st.lists(LINES, min_size=1, max_size=20, unique=True), st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_sample_is_drawn_by_content(questions: list[str], seed: int, draw: Random) -> None:
    rows = [data.Row((Message("user", question), Message("assistant", "x"))) for question in questions]
    whole = data.sample(rows, len(rows) + 5, seed)
    assert sorted(row.question for row in whole) == sorted(questions)
    shuffled = rows.copy()
    draw.shuffle(shuffled)
    for count in range(len(rows) + 1):
        assert data.sample(shuffled, count, seed) == whole[:count]


def test_another_seed_draws_another_sample() -> None:
    rows = [data.Row((Message("user", str(n)), Message("assistant", "x"))) for n in range(30)]
    assert len({data.sample(rows, 5, seed) for seed in range(6)}) == 6


@given(ANY)
def test_a_normal_form_is_lower_case_words_and_no_number_but_0(text: str) -> None:
    form = normal(text)
    assert form == " ".join(form.split())
    assert form == form.lower()
    assert not {character for character in form if character.isdecimal()} - {"0"}
    assert normal(f" ¿{text}?!\n") == form


def test_questions_that_count_as_the_same() -> None:
    assert normal("STRASSE 7") == normal("straße ７") == normal("Straße: 123,") == "strasse 0"
    assert normal("ﬁve") == "five"
    assert normal("…!?") == normal("") == ""
    assert normal("1 2") != normal("12")


@given(st.lists(st.text("abc ", max_size=12), max_size=15), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order(texts: list[str], draw: Random) -> None:
    order = list(range(len(texts)))
    draw.shuffle(order)
    plain, other = group_texts(texts), group_texts([texts[place] for place in order])
    assert (plain.count, plain.threshold) == (other.count, other.threshold)
    moved = {place: other.group[at] for at, place in enumerate(order)}
    same = {(plain.group[place], moved[place]) for place in order}
    assert len(same) == plain.count
    assert sorted(set(plain.group)) == list(range(plain.count))


@given(st.lists(st.text("abc ", max_size=12), min_size=1, max_size=15))
def test_repeating_a_text_makes_no_group(texts: list[str]) -> None:
    once, twice = group_texts(texts), group_texts(texts + texts)
    assert twice.count == once.count
    assert twice.group == once.group * 2


def test_no_texts_and_texts_without_words() -> None:
    assert (group_texts([]).group, group_texts([]).count) == ((), 0)
    assert group_texts(["", " ", "a", ""]).group == (0, 0, 1, 0)


def test_long_texts_are_compared_by_their_beginnings() -> None:
    opening = " ".join(f"word{number}" for number in range(500))
    assert len(opening) < 4000
    filler = " same" * ((4000 - len(opening)) // 5)
    assert group_texts([opening + filler + " one" * 900, opening + filler + " two" * 900]).count == 1


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 3))
def test_a_split_loses_and_doubles_nothing(count: int, share: float, seed: int) -> None:
    # Two letters a question: no two are near-duplicates, so every row is a group of its own.
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(count)]
    rows = [data.Row((Message("user", word), Message("assistant", "x"))) for word in words]
    wanted = round(count * share)
    if wanted in (0, count):
        with pytest.raises(BadData, match=f"{wanted} of {count} rows"):
            data.divide(rows, share, seed)
        return
    parts = data.divide(rows, share, seed)
    assert len(parts.held_out) == wanted
    assert parts.groups == count
    assert sorted(row.question for row in (*parts.train, *parts.held_out)) == sorted(words)
    assert data.split(rows, wanted, seed) == (parts.train, parts.held_out)
