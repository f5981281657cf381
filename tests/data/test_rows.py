"""Rows of each kind and their canonical file, whose form never changes for what was written before."""

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold import data
from freehold.core.errors import BadData
from freehold.core.request import Message, Tool, ToolCall
from freehold.data import rows
from tests.data import strategies
from tests.data.conftest import Write

QUESTION, ANSWER = Message("user", "How?"), Message("assistant", "So.")


def test_the_form_of_a_plain_conversation_is_what_it_always_was() -> None:
    """Keys of steps, digests of data and lineages of models are made of these bytes."""
    row = rows.Row((Message("system", "Be brief."), QUESTION, ANSWER), 7)
    assert row.encode() == (
        b'{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"How?"},'
        b'{"role":"assistant","content":"So."}]}'
    )
    call = rows.Row((QUESTION, Message("assistant", "", (ToolCall("c", "look", "{}"),)), Message("tool", "1", (), "c")))
    assert call.encode() == (
        b'{"messages":[{"role":"user","content":"How?"},{"role":"assistant","content":"","tool_calls":'
        b'[{"id":"c","name":"look","arguments":"{}"}]},{"role":"tool","content":"1","tool_call_id":"c"}]}'
    )
    assert data.digest_rows([row, call]).text == (
        "sha256:739a8ab52e9624ffbb4564824aa92909fadb776b9373de4b9db4aad1b1a34cac"
    )


@pytest.mark.parametrize(
    ("row", "form"),
    [
        (
            rows.Row((QUESTION, ANSWER, QUESTION, ANSWER), weights=(1.0, 0.0, 1.0, 0.5)),
            b'{"messages":[{"role":"user","content":"How?"},{"role":"assistant","content":"So.","weight":0},'
            b'{"role":"user","content":"How?"},{"role":"assistant","content":"So.","weight":0.5}]}',
        ),
        (
            rows.Row((QUESTION, ANSWER), tools=(Tool("look", "", {"type": "object"}),), synthetic="starter"),
            b'{"messages":[{"role":"user","content":"How?"},{"role":"assistant","content":"So."}],'
            b'"tools":[{"name":"look","parameters":{"type":"object"}}],"synthetic":"starter"}',
        ),
        (
            rows.Preference((QUESTION,), chosen=(ANSWER,), rejected=(Message("assistant", "No."),)),
            b'{"messages":[{"role":"user","content":"How?"}],"chosen":[{"role":"assistant","content":"So."}],'
            b'"rejected":[{"role":"assistant","content":"No."}]}',
        ),
        (
            rows.Judged((QUESTION, ANSWER), label=False),
            b'{"messages":[{"role":"user","content":"How?"},{"role":"assistant","content":"So."}],"label":false}',
        ),
        (
            rows.Prompt((QUESTION,), reference="42"),
            b'{"prompt":[{"role":"user","content":"How?"}],"reference":"42"}',
        ),
        (rows.Document("Once."), b'{"text":"Once."}'),
        (rows.Labelled("Once.", "true"), b'{"text":"Once.","label":"true"}'),
        (
            rows.Pair("a", "b", ("c",), 0.5),
            b'{"anchor":"a","positive":"b","negatives":["c"],"score":0.5}',
        ),
    ],
    ids=lambda value: value.kind if not isinstance(value, bytes) else "",
)
def test_the_form_of_each_kind(row: rows.AnyRow, form: bytes) -> None:
    assert row.encode() == form


def test_every_kind_is_told_by_its_name() -> None:
    assert set(rows.KINDS) == set(strategies.EACH)
    assert all(kind.kind == name for name, kind in rows.KINDS.items())


@given(st.lists(strategies.ANY, max_size=5))
@settings(max_examples=60)
def test_any_rows_come_back_from_their_file(given_rows: list[rows.AnyRow]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        data.write_rows(path, given_rows)
        again = data.read_any(path)
    assert [msgspec.structs.replace(row, line=0) for row in again] == given_rows
    assert [row.line for row in again] == list(range(1, len(given_rows) + 1))


@given(strategies.ANY)
def test_changing_nothing_changes_nothing(row: rows.AnyRow) -> None:
    assert rows.map_texts(row, lambda text: text) == row
    assert all(isinstance(text, str) for text in rows.texts(row))
    assert row.question
    assert isinstance(row.answer, str)


@given(strategies.ANY)
def test_every_text_is_changed(row: rows.AnyRow) -> None:
    changed = rows.map_texts(row, lambda text: f"<{text}>")
    assert rows.texts(changed) == [f"<{text}>" for text in rows.texts(row)]
    assert type(changed) is type(row)


def test_the_texts_of_a_row_are_all_that_was_said() -> None:
    call = Message("assistant", "", (ToolCall("c1", "look", '{"who": "Ann"}'),), reasoning="Look first.")
    row = rows.Preference((QUESTION, call, Message("tool", "42")), chosen=(ANSWER,), rejected=(ANSWER,))
    assert rows.texts(row) == ["How?", '{"who": "Ann"}', "Look first.", "", "42", "So.", "So."]
    assert rows.texts(rows.Labelled("a", "b")) == ["a"]
    assert rows.texts(rows.Pair("a", "b", ("c",))) == ["a", "b", "c"]


def test_a_kind_that_was_not_wanted_names_its_line(write: Write) -> None:
    path = write("rows.jsonl", b'{"messages":[{"role":"user","content":"x"}]}\n{"text":"Once."}\n')
    with pytest.raises(BadData, match="line 2 is of the kind 'text', not 'chat'") as caught:
        data.read_rows(path)
    assert "learns from text rows" in caught.value.remedy
    with pytest.raises(BadData, match="line 1 is of the kind 'chat'"):
        data.read_kind(path, rows.Document)


@pytest.mark.parametrize(
    "line",
    [
        b'{"messages": [], "chosen": [{"role": "assistant"}]}',
        b'{"label": true}',
        b'{"text": 5}',
        b'{"messages": [{"role": "assistant", "weight": 2}]}',
        b'{"anchor": "a", "score": "high"}',
    ],
)
def test_lines_that_are_no_row_are_refused(write: Write, line: bytes) -> None:
    with pytest.raises(BadData, match="line 1"):
        data.read_any(write("rows.jsonl", line))


def test_what_a_row_is_measured_by_is_its_wanted_answer() -> None:
    other = Message("assistant", "No.")
    assert data.as_chat(rows.Row((QUESTION, ANSWER))) == rows.Row((QUESTION, ANSWER))
    assert data.as_chat(rows.Preference((QUESTION,), chosen=(ANSWER,), rejected=(other,))) == rows.Row(
        (QUESTION, ANSWER)
    )
    assert data.as_chat(rows.Judged((QUESTION, ANSWER), label=True)) == rows.Row((QUESTION, ANSWER))
    assert data.as_chat(rows.Judged((QUESTION, ANSWER), label=False)) is None
    assert data.as_chat(rows.Prompt((QUESTION,), reference="So.")) == rows.Row((QUESTION, ANSWER))
    assert data.as_chat(rows.Prompt((QUESTION,))) is None
    assert data.as_chat(rows.Document("x")) is None
