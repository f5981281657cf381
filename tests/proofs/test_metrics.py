"""Token-F1 and exact match, as SQuAD defines them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.proofs.metrics import METRICS, exact_match, normalise, token_f1

TEXT = st.text(alphabet="abc the., !'", max_size=40)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The cat sat.", "the CAT sat", 1.0),
        ("cat", "dog", 0.0),
        ("cat sat", "cat ran", 0.5),
        ("cat cat cat", "cat", 0.5),
        ("one two three four", "one two", 2 / 3),
        ("", "", 1.0),
        ("the", "a", 1.0),
        ("", "cat", 0.0),
        ("cat", "…", 0.0),
    ],
)
def test_token_f1(answer: str, reference: str, expected: float) -> None:
    assert math.isclose(token_f1(answer, reference), expected)


@pytest.mark.parametrize(
    ("text", "expected"), [("A theme.", "theme"), ("Don't  shout!", "dont shout"), ("“The” end—now", "endnow")]
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(TEXT, TEXT)
def test_laws(one: str, other: str) -> None:
    for metric in METRICS.values():
        assert 0 <= metric(one, other) <= 1
        assert metric(one, other) == metric(other, one)
        assert metric(one, one.upper() + " ") == 1
    assert exact_match(one, other) <= token_f1(one, other)
