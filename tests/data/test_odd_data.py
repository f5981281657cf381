"""Files as tools really write them: unnamed columns, missing values, half of an encoding, calls in another form."""

import json
import shlex
from pathlib import Path

import pytest

from freehold import data
from freehold.core.errors import BadData, NotFound, TooLarge
from freehold.core.request import MAX_MESSAGES, Message, ToolCall
from freehold.data import text
from freehold.data.readers import readers
from tests.data.conftest import PAIRS, Write


def _only(path: Path, **options: object) -> data.Row:
    [row] = data.load(path, minimum=1, **options).rows  # type: ignore[arg-type]
    return row


def _refusal(path: Path, **options: object) -> BadData:
    with pytest.raises(BadData) as caught:
        data.load(path, minimum=1, **options)  # type: ignore[arg-type]
    assert "\n" not in caught.value.line()
    assert caught.value.remedy
    return caught.value


def _pair(question: str, answer: str) -> tuple[Message, Message]:
    return Message("user", question), Message("assistant", answer)


def test_an_unnamed_column_is_nobodys_text(write: Write) -> None:
    """pandas writes its row numbers so unless it is told not to."""
    found = data.load(write("a.csv", ",question,answer\n0,How?,So.\n"), minimum=1)
    assert found.rows[0].messages == _pair("How?", "So.")
    assert "columns not used: (without a name)" in found.notes


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"\xff\xfe", b"\xfe\xff\0 \0\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_mark_and_nothing_behind_it_is_an_empty_file(write: Write, name: str, content: bytes) -> None:
    assert "is empty" in _refusal(write(name, content)).message


def test_half_a_character_of_utf_16_is_not_called_wrong_utf_8(write: Write) -> None:
    content = b"\xff\xfe" + "question,answer\nHow?,So.\n".encode("utf-16-le")
    assert _only(write("a.csv", content)).messages == _pair("How?", "So.")
    error = _refusal(write("a.csv", content + b"a"))
    assert f"UTF-16 and is none at offset {len(content)}" in error.message
    assert "WINDOWS" not in error.remedy


def test_the_command_that_mends_an_encoding_holds_for_any_file_name(write: Write) -> None:
    name = "what's new; rm -rf.csv"
    command = _refusal(write(name, "question,answer\nOù?,Là.\n".encode("latin-1"))).remedy.partition(": ")[2]
    assert shlex.split(command)[-3:] == [name, ">", f"utf8-{name}"]


def test_a_file_above_the_limit_is_not_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_FILE", 10)
    with pytest.raises(TooLarge, match="has 24 bytes") as caught:
        data.load(write("a.csv", "question,answer\nHow?,So."))
    assert "at most 10 bytes" in caught.value.remedy


@pytest.mark.parametrize("number", ["NaN", "1e999", "Infinity", "-"])
def test_numbers_that_json_does_not_have_name_their_line(write: Write, number: str) -> None:
    line = f'{{"prompt": {number}, "completion": "x"}}'
    assert "line 2 is not JSON" in _refusal(write("a.jsonl", '{"prompt": 1, "completion": 2}\n' + line)).message
    assert "is not JSON" in _refusal(write("a.json", f"[{line}]")).message


def test_values_that_are_no_text_are_spelt_out(write: Write) -> None:
    huge = 10**40 + 7
    record = {"prompt": huge, "completion": 0, "system": False}
    assert _only(write("a.jsonl", json.dumps(record))).messages == (
        Message("system", "False"),
        *_pair(str(huge), "0"),
    )


def test_half_a_surrogate_pair_is_refused(write: Write) -> None:
    assert "surrogate" in _refusal(write("a.jsonl", '{"prompt": "\\ud83d", "completion": "x"}')).message
    both = _only(write("b.jsonl", '{"prompt": "\\ud83d\\ude00", "completion": "x"}'))
    assert both.question == "😀"


def test_a_key_that_only_some_lines_have_is_a_column_of_all(write: Write) -> None:
    lines = [{"prompt": "How?", "completion": "So."}, {"prompt": "Why?", "completion": "Thus.", "system": "Be brief."}]
    rows = data.load(write("a.jsonl", "\n".join(map(json.dumps, lines))), minimum=1).rows
    assert rows[0].messages == _pair("How?", "So.")
    assert rows[1].messages[0] == Message("system", "Be brief.")


def test_an_empty_cell_at_the_end_of_a_line_counts_as_a_field(write: Write) -> None:
    found = data.load(write("a.csv", "question,answer,note\nHow?,So.,\nWhy?,Thus.,x\n"), minimum=1)
    assert [row.line for row in found.rows] == [2, 3]
    assert "line 2 has 2 fields where the header has 3" in _refusal(write("b.csv", "a,b,c\nHow?,So.\n")).message


def test_a_separator_inside_quotes_decides_nothing(write: Write) -> None:
    lines = "".join(f'"{q}; really; yes";"{a}, he said, twice"\n' for q, a in PAIRS)
    rows = data.load(write("a.csv", "question;answer\n" + lines)).rows
    assert rows[0].question == f"{PAIRS[0][0]}; really; yes"


def test_a_field_above_the_limit_is_refused_before_it_fills_memory(write: Write) -> None:
    wide = "x" * ((8 << 20) + 1)
    assert "field larger than field limit" in _refusal(write("a.csv", f"question,answer\n{wide},b\n")).message


@pytest.mark.parametrize("calls", [5, True, {"function": 1}, [{"function": {"name": "f"}}], ["f"], "f", [None]])
def test_tool_calls_in_no_known_form_name_their_turn(write: Write, calls: object) -> None:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "tool_calls": calls}]
    message = _refusal(write("a.jsonl", json.dumps({"messages": turns}))).message
    assert "line 1 turn 2" in message
    assert "tool" in message


@pytest.mark.parametrize("calls", [None, [], ()])
def test_no_tool_calls_can_be_said_in_many_ways(write: Write, calls: object) -> None:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "tool_calls": calls}]
    assert _only(write("a.jsonl", json.dumps({"messages": turns}))).messages == _pair("x", "y")


def test_arguments_given_as_an_object_become_json(write: Write) -> None:
    arguments = {"city": "Saint John's", "days": 2, "metric": True, "until": None}
    call = {"id": "c", "function": {"name": "weather", "arguments": arguments}}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    [made] = _only(write("a.jsonl", json.dumps({"messages": turns}))).messages[-1].tool_calls
    assert json.loads(made.arguments) == arguments
    call["function"] = {"name": "weather", "arguments": json.dumps(arguments)}
    [same] = _only(write("b.jsonl", json.dumps({"messages": turns}))).messages[-1].tool_calls
    assert same == ToolCall("c", "weather", json.dumps(arguments))


@pytest.mark.parametrize("role", ["User", "HUMAN", "user"])
def test_roles_are_known_in_any_case(write: Write, role: str) -> None:
    turns = [{"from": role, "value": "x\r\ny"}, {"from": "Model", "value": "z"}]
    assert _only(write("a.jsonl", json.dumps({"conversation": turns}))).messages == _pair("x\ny", "z")


def test_named_columns_win_over_a_conversation(write: Write) -> None:
    record = {"messages": "seven of them", "q": "How?", "a": "So."}
    path = write("a.jsonl", json.dumps(record))
    assert "no list of turns" in _refusal(path).message
    assert _only(path, columns={"user": "q", "assistant": "a"}).messages == _pair("How?", "So.")


def test_a_conversation_of_too_many_turns_names_its_line(write: Write) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")] * (MAX_MESSAGES // 2 + 1)
    error = _refusal(write("a.jsonl", "\n" + json.dumps({"messages": turns})))
    assert "line 2 is too long" in error.message
    assert str(MAX_MESSAGES) in error.remedy


def test_repetitions_stay_when_they_are_wanted(write: Write) -> None:
    path = write("a.csv", "question,answer\n" + "How?,So.\n" * 3)
    assert len(data.load(path, minimum=1).rows) == 1
    found = data.load(path, minimum=1, repetitions=True)
    assert [row.line for row in found.rows] == [2, 3, 4]
    assert not any("repetitions" in note for note in found.notes)


def test_parquet_that_another_program_wrote(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"question": ["Où?".encode()], "answer": pa.array(["Là."]).dictionary_encode()}), path)
    assert _only(path).messages == _pair("Où?", "Là.")
    parquet.write_table(pa.table({"question": ["a", "b"], "answer": [float("nan"), 2.5]}), path)
    assert _only(path).messages == _pair("b", "2.5")
    parquet.write_table(pa.table({"question": [b"\xff"], "answer": ["x"]}), path)
    assert "row 1 holds bytes that are not UTF-8 in column 'question'" in _refusal(path).message
    offsets, letters = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    parquet.write_table(
        pa.table({"question": pa.Array.from_buffers(pa.string(), 1, [None, offsets, letters]), "answer": ["x"]}), path
    )
    assert "row 1 holds bytes that are not UTF-8 in column 'question'" in _refusal(path).message


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = [pa.array([word]) for word in ("a", "b", "c")]
    table = pa.Table.from_arrays(columns, names=["question", "question", "answer"])
    parquet.write_table(table, tmp_path / "a.parquet")
    assert "question" in _refusal(tmp_path / "a.parquet").message


@pytest.mark.parametrize(
    ("head", "suffix", "format"),
    [
        (b"PAR1", ".csv", "parquet"),
        (b'{"a": 1}', "", "jsonl"),
        (b' \n[{"a": 1}]', ".txt", "json"),
        (b"a,b\n", "", "csv"),
        (b"[1] said he,b\n", ".csv", "csv"),
        (b"a,b\n", ".json", "csv"),
        (b'["a"]\n', ".ndjson", "jsonl"),
    ],
)
def test_whose_file_it_is(head: bytes, suffix: str, format: str) -> None:
    likeliest = max(readers().values(), key=lambda reader: reader.likelihood(head, suffix))
    assert likeliest.name == format


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "line 1"),
        (b"[" * 100_000, "line 1"),
        (b'{"messages": []}\n\n{"messages": [{"role": "user", "content": 5}]}', "line 3"),
        (b'{"turns": []}', "messages"),
    ],
)
def test_a_canonical_file_that_was_changed_names_the_line(write: Write, content: bytes, said: str) -> None:
    with pytest.raises(BadData, match=said):
        data.read_rows(write("rows.jsonl", content))


def test_a_canonical_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        data.read_rows(tmp_path / "none.jsonl")
    with pytest.raises(BadData, match="cannot read"):
        data.read_rows(tmp_path)
