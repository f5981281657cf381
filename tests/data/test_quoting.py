"""A quote that is left open swallows rows without an error: that is told, and fields of many lines are left alone."""

import csv
import io

import pytest

from freehold import data
from freehold.data.findings import Finding
from tests.data.conftest import PAIRS, Write

ROWS = [f"How do I open door {number}?,Turn key {number}" for number in range(12)]
LETTER = "Dear Ms Smith, hello\nthank you, for your note\nand see you, soon"
POEM = "Roses are red,\nviolets are blue,\nsugar is sweet,\nand so are you"
CODE = "def add(a,b):\n    return sum([a,b])\n\nprint(add(1,2))"
SHORT_CSV = "name,age\nAnn,31\nBob,42\nCy,5"


def _found(write: Write, text: str) -> list[Finding]:
    return [found for found in data.load(write("a.csv", text), minimum=1).findings if found.check == "quote"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_quote_left_open_names_the_lines_that_it_takes(write: Write, mark: str) -> None:
    lines = ["question,answer", *ROWS]
    lines[3] = '"' + lines[3]
    lines[8] = 'Is it 5",Yes'
    (found,) = _found(write, "\n".join(lines).replace(",", mark))
    text = "1 row holds the lines below, which look like rows: a quote is left open there (line 4: up to line 9)"
    assert found.said() == text


def test_a_quote_left_open_in_an_answer_and_in_a_file_of_windows(write: Write) -> None:
    lines = ["id,question,answer", *(f"{number},{row}" for number, row in enumerate(ROWS))]
    lines[3] = lines[3].replace("Turn", '"Turn')
    lines[5] += '"'
    (found,) = _found(write, "\r\n".join(lines))
    assert found.where == "line 4"


@pytest.mark.parametrize("text", [LETTER, POEM, CODE, SHORT_CSV, "a,b\nc", f"Here you are:\n{SHORT_CSV}"])
@pytest.mark.parametrize("answer", [False, True])
def test_fields_of_several_lines_are_no_open_quotes(write: Write, text: str, answer: bool) -> None:
    file = io.StringIO()
    more = ("Write it", text) if answer else (text, "It is good")
    csv.writer(file).writerows([("question", "answer"), *PAIRS, more])
    assert _found(write, file.getvalue()) == []


def test_a_file_of_long_fields_alone_tells_nothing(write: Write) -> None:
    assert _found(write, f'question,answer\nWrite it,"Here:\n{SHORT_CSV}"\n') == []
