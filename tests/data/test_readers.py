"""Each format is read into the same rows, found by suffix or by content."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold import data
from freehold.core.errors import BadData, MissingExtra
from freehold.core.request import Message
from freehold.data.readers import readers
from freehold.data.readers.delimited import sniff
from tests.data.conftest import PAIRS, Write


def _delimited(separator: str) -> str:
    quoted = [[f'"{field}"' for field in pair] for pair in (("question", "answer"), *PAIRS)]
    return "".join(separator.join(pair) + "\n" for pair in quoted)


def _jsonl(make: Callable[[str, str], dict[str, object]]) -> str:
    return "".join(json.dumps(make(question, answer)) + "\n" for question, answer in PAIRS)


def _expected() -> list[tuple[Message, ...]]:
    return [(Message("user", question), Message("assistant", answer)) for question, answer in PAIRS]


def _messages(path: Path, **options: object) -> list[tuple[Message, ...]]:
    return [row.messages for row in data.load(path, **options).rows]  # type: ignore[arg-type]


def test_every_module_of_the_folder_is_a_format() -> None:
    assert set(readers()) == {"csv", "jsonl", "json", "parquet", "xlsx", "pdf", "text"}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a"])
def test_delimited(write: Write, separator: str, name: str) -> None:
    assert _messages(write(name, _delimited(separator))) == _expected()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks(write: Write, encoding: str) -> None:
    assert _messages(write("a.csv", _delimited(",").encode(encoding))) == _expected()


def test_windows_line_ends_and_quoted_breaks(write: Write) -> None:
    text = _delimited(",").replace("\n", "\r\n") + '"Two\r\nlines, and ""quotes""?","An, answer"\r\n'
    last = data.load(write("a.csv", text)).rows[-1]
    assert last.messages == (Message("user", 'Two\nlines, and "quotes"?'), Message("assistant", "An, answer"))
    assert last.line == len(PAIRS) + 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("question;answer\nOne, two?;Three, four, five\nSix, seven?;Eight, nine, ten\n", ";"),
        ("question,answer\nOne; two?,Three\nFour?,Five; six\n", ","),
        ("question\tanswer\nOne, two\tThree, four\n", "\t"),
        ("only\none\ncolumn\n", ","),
    ],
)
def test_sniffing_prefers_what_splits_every_line_alike(text: str, expected: str) -> None:
    assert sniff(text) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]},
        lambda q, a: {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": q}]},
                {"role": "assistant", "content": a},
            ]
        },
        lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
        lambda q, a: {"prompt": q, "completion": a},
        lambda q, a: {"instruction": q, "input": "", "output": a},
        lambda q, a: {"Question": q, "category": "x", "Answer": a},
    ],
    ids=["messages", "parts", "sharegpt", "prompt", "alpaca", "columns"],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt"])
def test_json_shapes(write: Write, make: Callable[[str, str], dict[str, object]], name: str) -> None:
    text = _jsonl(make)
    assert _messages(write(name, text)) == _expected()
    array = "[" + ",".join(text.splitlines()) + "]"
    assert _messages(write(name, array), format="auto" if name != "a.jsonl" else "json") == _expected()


def test_alpaca_input_follows_the_instruction(write: Write) -> None:
    text = _jsonl(lambda q, a: {"instruction": "Answer.", "input": q, "output": a})
    assert _messages(write("a.jsonl", text))[0][0] == Message("user", f"Answer.\n\n{PAIRS[0][0]}")


def test_system_column_and_default(write: Write) -> None:
    text = _jsonl(lambda q, a: {"system": "Be kind." if "dog" in q else "", "prompt": q, "completion": a})
    rows = _messages(write("a.jsonl", text), system="Be brief.")
    assert rows[3][0] == Message("system", "Be kind.")
    assert rows[0][0] == Message("system", "Be brief.")


def test_many_turns_tools_and_trailing_user(write: Write) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Look it up"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
        {"role": "user", "content": "Thanks"},
    ]
    lines = [{"messages": [{**turn, "name": f"n{i}"} for turn in turns]} for i in range(12)]
    row = data.load(write("a.jsonl", "\n".join(map(json.dumps, lines)))).rows[0]
    assert [message.role for message in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.messages[2].tool_calls[0].name == "look"
    assert row.question == "Look it up"
    assert row.answer == "It is 42."


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.bin"
    parquet.write_table(pa.table({"question": [q for q, _ in PAIRS], "answer": [a for _, a in PAIRS]}), path)
    assert _messages(path) == _expected()
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in PAIRS]
    parquet.write_table(pa.table({"messages": turns}), path)
    assert _messages(path) == _expected()


def test_broken_parquet(write: Write) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(BadData, match="no readable Parquet"):
        data.load(write("a.parquet", b"PAR1 and then nothing of the kind"))


def test_parquet_without_pyarrow_names_the_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as caught:
        data.load(write("a.parquet", b"PAR1"))
    assert "pip install 'freehold[data]'" in caught.value.remedy


def test_canonical_file_round_trip(tmp_path: Path, write: Write) -> None:
    rows = data.load(write("a.csv", _delimited(","))).rows
    data.write_rows(tmp_path / "rows.jsonl", rows)
    again = data.read_rows(tmp_path / "rows.jsonl")
    assert [row.messages for row in again] == [row.messages for row in rows]
    assert data.digest_rows(again) == data.digest_rows(rows[::-1])
    first = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    assert first == {
        "messages": [{"role": "user", "content": PAIRS[0][0]}, {"role": "assistant", "content": PAIRS[0][1]}]
    }


def test_canonical_file_with_a_broken_line(write: Write) -> None:
    with pytest.raises(BadData, match="line 2"):
        data.read_rows(write("r.jsonl", '{"messages": []}\n{"messages": [{"role": "nobody"}]}\n'))
