"""Rows to learn from that ask what is held out: all of them, by the row that they are like, and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.request import Message
from freehold.data import leaks as module
from freehold.data.grouping import group_texts, similar
from freehold.data.leaks import leaks, sought
from freehold.data.normal import normal
from freehold.data.rows import Document, Pair, Row

WORDS = st.sampled_from([f"w{letter}" for letter in "abcdefgh"])
TEXTS = st.lists(st.lists(WORDS, max_size=7).map(" ".join), max_size=12)
THRESHOLDS = st.sampled_from([0.5, 0.6, 0.75, 0.8, 0.9, 1.0])


def jaccard(one: str, other: str) -> float:
    a, b = set(one.split()), set(other.split())
    return len(a & b) / len(a | b) if a and b else 0.0


def row(question: str, line: int) -> Row:
    return Row((Message("user", question), Message("assistant", "x")), line)


@given(TEXTS, TEXTS, THRESHOLDS)
def test_each_text_is_found_with_the_first_that_is_like_it(
    texts: list[str], others: list[str], threshold: float
) -> None:
    """As by comparing all with all. An equal one goes before one that is only like it."""
    found = similar(texts, others, threshold)
    for number, text in enumerate(texts):
        near = [place for place, other in enumerate(others) if jaccard(text, other) >= threshold - 1e-9]
        equal = [place for place in near if jaccard(text, others[place]) == 1.0]
        assert found.get(number) == next(iter([*equal, *near]), None)


@given(TEXTS)
def test_groups_are_the_components_of_what_is_alike(texts: list[str]) -> None:
    made = group_texts(texts)
    parent = list(range(len(texts)))

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for one in range(len(texts)):
        for other in range(one):
            a, b = set(texts[one].split()), set(texts[other].split())
            if a == b or jaccard(texts[one], texts[other]) >= made.threshold - 1e-9:
                parent[root(one)] = root(other)
    roots = [root(number) for number in range(len(texts))]
    for one in range(len(texts)):
        for other in range(one):
            assert (made.group[one] == made.group[other]) == (roots[one] == roots[other])
    assert made.count == len(set(roots))
    assert list(dict.fromkeys(made.group)) == list(range(made.count)), "numbered as they come up"


@given(TEXTS, TEXTS)
def test_a_leak_names_the_row_that_is_held_out(learned: list[str], kept: list[str]) -> None:
    rows = [row(text, line) for line, text in enumerate(learned, 1)]
    held = [row(text, 100 + line) for line, text in enumerate(kept)]
    found = {leak.row.line: leak for leak in leaks(rows, held)}
    for each in rows:
        same = [other for other in held if normal(each.question) and normal(other.question) == normal(each.question)]
        near = [other for other in held if jaccard(normal(each.question), normal(other.question)) >= 0.8]
        leak = found.get(each.line)
        assert (leak is not None) == bool(same or near)
        if leak is not None:
            assert leak.exact == bool(same)
            assert leak.held_out is (same or near)[0] or leak.held_out in near
            assert leak.said.endswith(f"of held-out row {leak.held_out.line}")


@pytest.mark.parametrize(
    ("learned", "held", "said"),
    [
        ("Where is my order?", "where IS my order", "the question of held-out row 9"),
        ("Where is order 12345?", "Where is order 777?", "the question of held-out row 9"),
        ("Where is my new order", "Where is my new order today", "nearly the question of held-out row 9"),
        ("STRASSE 7", "straße 12", "the question of held-out row 9"),
        ("Where is my order?", "What is your name?", ""),
        ("???", "!!!", ""),
        ("", "", ""),
    ],
)
def test_questions_as_people_ask_them(learned: str, held: str, said: str) -> None:
    assert "".join(leak.said for leak in leaks([row(learned, 1)], [row(held, 9)])) == said


def test_sums_that_are_not_held_out_are_no_leaks() -> None:
    rows = [row(f"What is {number} + 1?", number) for number in range(20)]
    held = [row("what is 3 + 1", 91), row("What is 50 + 1?", 92)]
    found = sought(rows, held)
    assert found.exact
    assert [(leak.row.line, leak.said) for leak in found.leaks] == [(3, "the question of held-out row 91")]
    others = [row(f"{word} is a word of its own", 100 + number) for number, word in enumerate("abcdefghijklmnopqrstuv")]
    assert len(sought([*rows, *others], held).leaks) == 20, "some templates are leaks, as ever"
    assert sought(rows, rows) == (leaks(rows, rows), False)


def test_rows_without_questions_are_compared_by_their_text() -> None:
    assert leaks([Document("One two three", 1)], [Document("one, two, three!", 2)])[0].exact
    assert leaks([Pair("a b c", "x", line=1)], [Pair("A b c", "y", line=2)])[0].exact


def test_of_many_rows_only_equal_ones_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    near = [row("one two three four five six", 1), row("one two three four five", 2)]
    held = [row("one two three four five", 3)]
    assert len(leaks(near, held)) == 2
    monkeypatch.setattr(module, "MOST", 2)
    assert [leak.row.line for leak in leaks(near, held)] == [2]
