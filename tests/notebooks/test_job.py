"""Jobs and answers between the two processes of a notebook."""

from pathlib import Path
from typing import Any

import pytest

from freehold.cli.notebook import _value
from freehold.core.errors import BadInput
from freehold.notebooks.job import NotebookJob, Ran, decode, encode


def job(values: dict[str, Any]) -> NotebookJob:
    return NotebookJob(
        notebook=Path("/a/é.ipynb"), out=Path("/b"), home=Path("/c"), work=Path("/d"), values=values, skip=("x",)
    )


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("5", 5),
        ("-2e-4", -2e-4),
        ("True", True),
        ("None", None),
        ("(0.9, 0.999)", (0.9, 0.999)),
        ("{1: 'a', (2, 3): [None]}", {1: "a", (2, 3): [None]}),
        ("{1, 2}", {1, 2}),
        ("b'x'", b"x"),
        ("'5'", "5"),
        (" linear ", "linear"),
        ("1" * 40, int("1" * 40)),
        ("a=b", "a=b"),
        # What Python cannot read, or could not read again, is text.
        ("{[]: 1}", "{[]: 1}"),
        ("1e999", "1e999"),
        ("...", "..."),
        ("(" * 300, "(" * 300),
        ("-" * 100_000 + "1", "-" * 100_000 + "1"),
        ("f()", "f()"),
        ("", ""),
    ],
)
def test_a_value_reaches_the_notebook_as_it_was_said(said: str, value: Any) -> None:
    name, found = _value(f"name={said}")
    [arrived] = decode(encode(job({name: found})), NotebookJob).values.values()
    assert (type(arrived), arrived) == (type(value), value)


@pytest.mark.parametrize("text", ["x", "=5", "a b=5", "5=x", "a-b=1", ""])
def test_what_names_no_variable_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="sets nothing"):
        _value(text)


def test_both_come_back_as_they_were() -> None:
    ran = Ran(cells=3, skipped=1, out=Path("/o"), seconds=1.5, unused=("x",), error="é", cell=2)
    assert decode(encode(ran), Ran) == ran
    assert decode(encode(job({})), NotebookJob) == job({})
