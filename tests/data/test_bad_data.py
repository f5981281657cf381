"""Whatever is wrong with a data file is said in one line that names the place and the remedy, with exit code 2."""

import json
from pathlib import Path

import pytest

from freehold import data
from freehold.core.errors import BadData
from tests.data.conftest import PAIRS, Write

GOOD = "question,answer\n" + "".join(f'"{q}","{a}"\n' for q, a in PAIRS)
GOOD_LINES = "".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in PAIRS)


def _refusal(path: Path, **options: object) -> BadData:
    with pytest.raises(BadData) as caught:
        data.load(path, **options)  # type: ignore[arg-type]
    error = caught.value
    assert error.exit_code == 2
    assert error.remedy
    assert "\n" not in error.line()
    return error


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in _refusal(tmp_path / "nothing.csv").message


def test_a_folder(tmp_path: Path) -> None:
    assert "cannot read" in _refusal(tmp_path).message


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_empty_file(write: Write, name: str, content: str) -> None:
    assert "is empty" in _refusal(write(name, content)).message


def test_header_alone(write: Write) -> None:
    path = write("a.csv", "question,answer\n")
    for minimum, remedy in ((0, "Give at least 10 rows"), (1, "Give at least 1 row"), (10, "Give at least 10 rows")):
        error = _refusal(path, minimum=minimum)
        assert (error.message, error.remedy) == (f"{path} has no rows; columns: question, answer", remedy)
    assert _refusal(write("a.json", "[]")).message.endswith("a.json has no rows")


def test_one_row_states_the_minimum(write: Write) -> None:
    error = _refusal(write("a.csv", "question,answer\nHow?,So.\n"))
    assert "has 1 usable row" in error.message
    assert str(data.MIN_ROWS) in error.remedy


def test_no_usable_columns_lists_them_and_how_to_name_them(write: Write) -> None:
    error = _refusal(write("a.csv", "alpha,beta\n" + "x,y\n" * 12))
    assert "alpha, beta" in error.message
    assert "columns = {user" in error.remedy


def test_one_column(write: Write) -> None:
    assert "assistant" in _refusal(write("a.csv", "question\n" + "x\n" * 12)).message


def test_named_column_that_is_not_there_names_the_nearest(write: Write) -> None:
    error = _refusal(write("a.csv", GOOD), columns={"user": "qestion", "assistant": "answer"})
    assert "'question'" in error.message


def test_unknown_role_names_the_nearest(write: Write) -> None:
    assert "'assistant'" in _refusal(write("a.csv", GOOD), columns={"asistant": "answer"}).message


def test_one_column_for_both(write: Write) -> None:
    _refusal(write("a.csv", GOOD), columns={"user": "answer", "assistant": "answer"})


def test_naming_one_column_finds_the_other(write: Write) -> None:
    found = data.load(write("a.csv", GOOD.replace("question", "spoken")), columns={"user": "spoken"})
    assert found.columns == {"user": "spoken", "assistant": "answer"}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_wrong_encoding_names_byte_and_line(write: Write, mark: bytes) -> None:
    content = mark + GOOD.encode() + "Où?,Là.\n".encode("latin-1")
    error = _refusal(write("a.csv", content))
    assert f"byte 0xf9 at offset {content.index(0xF9)}, line {len(PAIRS) + 2}" in error.message
    assert "iconv" in error.remedy


def test_binary_files(write: Write) -> None:
    assert "NUL" in _refusal(write("a.csv", GOOD + "a\0,b\n")).message
    assert "spreadsheet" in _refusal(write("a.xlsx", b"PK\x03\x04rest")).message


def test_ragged_row_names_its_line(write: Write) -> None:
    error = _refusal(write("a.csv", GOOD + '"a\nb","c"\nWell, yes?,No.\n'))
    assert f"line {len(PAIRS) + 4} has 3 fields where the header has 2" in error.message


def test_open_quote_names_the_line_it_starts_on(write: Write) -> None:
    assert f"line {len(PAIRS) + 2}" in _refusal(write("a.csv", GOOD + '"never closed,x\nmore\n')).message


def test_doubled_column(write: Write) -> None:
    assert "two columns named 'answer'" in _refusal(write("a.csv", "answer,answer\nx,y\n")).message


@pytest.mark.parametrize(
    ("line", "word"), [('{"prompt": "x"', "not JSON"), ("[1]", "not an object"), ("nul", "not JSON")]
)
def test_broken_json_line(write: Write, line: str, word: str) -> None:
    error = _refusal(write("a.jsonl", GOOD_LINES + "\n" + line + "\n"))
    assert f"line {len(PAIRS) + 2}" in error.message
    assert word in error.message


def test_nesting_without_end(write: Write) -> None:
    _refusal(write("a.jsonl", GOOD_LINES + '{"a":' * 100_000 + "\n"))
    _refusal(write("a.json", "[" * 100_000))


@pytest.mark.parametrize("text", ['{"a": ', '["x"]', "[1, 2"])
def test_broken_json(write: Write, text: str) -> None:
    _refusal(write("a.json", text), format="json")


def test_json_that_is_no_array(write: Write) -> None:
    assert "holds no array" in _refusal(write("a.json", '{"a": 1}'), format="json").message


def test_unknown_format(write: Write) -> None:
    assert "unknown format 'xml'" in _refusal(write("a.csv", GOOD), format="xml").message


@pytest.mark.parametrize(
    ("turns", "word"),
    [
        ("text", "no list of turns"),
        (["hello"], "turn 1 is not an object"),
        ([{"role": "narrator", "content": "x"}], "role 'narrator'"),
        ([{"role": "assistant", "content": "x"}], "does not begin with the user"),
        ([{"role": "user", "content": {"a": 1}}], "not text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "not text"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}], "tool call"),
        (
            [
                {"role": "user", "content": "x"},
                {"role": "system", "content": "x"},
                {"role": "assistant", "content": "x"},
            ],
            "middle",
        ),
    ],
)
def test_broken_conversation_names_the_line(write: Write, turns: object, word: str) -> None:
    message = _refusal(write("a.jsonl", "\n" + json.dumps({"messages": turns}))).message
    assert "line 2" in message
    assert word in message


def test_what_is_left_out_and_assumed_is_told(write: Write) -> None:
    question, answer = PAIRS[0]
    extra = f'"{question}","{answer}"\n"{question.upper()}","Something else."\n"No answer?",""\n"",""\n'
    found = data.load(write("a.csv", GOOD + extra))
    notes = "\n".join(found.notes)
    assert len(found.rows) == len(PAIRS) + 1
    assert f"2 rows without question or answer are left out (line {len(PAIRS) + 4}, {len(PAIRS) + 5})" in notes
    assert f"1 exact repetition is left out (line {len(PAIRS) + 2})" in notes
    assert f"1 question has more than one answer: the model can match only one of them (line {len(PAIRS) + 3})" in notes
    assert "user text is in column 'question'" in notes


def test_unused_columns_and_separator_are_told(write: Write) -> None:
    text = "id;question;answer\n" + "".join(f"{i};{q};{a}\n" for i, (q, a) in enumerate(PAIRS))
    notes = data.load(write("a.csv", text)).notes
    assert "columns not used: id" in notes
    assert "fields are separated by semicolon" in notes


def test_conversations_without_anything_that_counts_are_left_out(write: Write) -> None:
    lines = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a, "weight": number % 2}]}
        for number, (q, a) in enumerate(PAIRS)
    ]
    found = data.load(write("a.jsonl", "\n".join(map(json.dumps, lines))), minimum=1)
    assert [row.line for row in found.rows] == [2, 4, 6, 8, 10, 12]
    assert "6 conversations with no answer of a weight over 0 are left out (line 1, 3, 5, 7, 9, …)" in found.notes


def test_conversations_in_which_the_assistant_is_silent(write: Write) -> None:
    lines = [
        json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]})
        for q, a in PAIRS
    ]
    silent = json.dumps({"messages": [{"role": "user", "content": "Anyone?"}]})
    found = data.load(write("a.jsonl", "\n".join([*lines, silent])))
    assert len(found.rows) == len(PAIRS)
    assert f"1 row without question or answer is left out (line {len(PAIRS) + 1})" in found.notes
