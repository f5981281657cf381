"""Each form that people write data in becomes rows of its kind; what fits none is refused by name."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold import data
from freehold.core.errors import BadData
from freehold.core.request import Message, Tool, ToolCall
from freehold.data import rows
from freehold.data.shapes import shapes
from tests.data import strategies
from tests.data.conftest import Write

Record = dict[str, Any]
USER, WANTED, OTHER = Message("user", "How?"), Message("assistant", "So."), Message("assistant", "No.")
ASKED: Record = {"role": "user", "content": "How?"}
SAID: Record = {"role": "assistant", "content": "So."}
REFUSED: Record = {"role": "assistant", "content": "No."}
PREFERENCE = rows.Preference((USER,), 1, chosen=(WANTED,), rejected=(OTHER,))


def lines(*records: Record) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def only(path: Path, **options: Any) -> rows.AnyRow:
    [row] = data.load(path, minimum=1, **options).rows
    return row


def refusal(path: Path, **options: Any) -> BadData:
    with pytest.raises(BadData) as caught:
        data.load(path, minimum=1, **options)
    assert "\n" not in caught.value.line()
    assert caught.value.remedy
    return caught.value


def test_every_kind_has_a_shape() -> None:
    assert {shape.kind for shape in shapes()} == set(rows.KINDS)


@pytest.mark.parametrize("kind", strategies.EACH)
@given(drawn=st.data())
@settings(max_examples=25)
def test_the_canonical_file_is_a_data_file_too(kind: str, drawn: st.DataObject) -> None:
    """What was written for the trainer can be given as data again, and says the same."""
    given_rows = drawn.draw(st.lists(strategies.EACH[kind], min_size=1, max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        data.write_rows(path, given_rows)
        again = data.load(path, minimum=1, repetitions=True)
    assert again.kind == kind
    assert [msgspec.structs.replace(row, line=0) for row in again.rows] == given_rows


PREFERENCES: dict[str, Record] = {
    "OpenAI": {
        "input": {"messages": [ASKED], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [SAID],
        "non_preferred_output": [REFUSED],
    },
    "TRL": {"prompt": "How?", "chosen": "So.", "rejected": "No."},
    "TRL, turns": {"prompt": [ASKED], "chosen": [SAID], "rejected": [REFUSED]},
    "TRL, no prompt": {"chosen": [ASKED, SAID], "rejected": [ASKED, REFUSED]},
    "whole beside the prompt": {"prompt": "How?", "chosen": [ASKED, SAID], "rejected": [ASKED, REFUSED]},
    "transcripts": {
        "chosen": "\n\nHuman: How?\n\nAssistant: So.",
        "rejected": "\n\nHuman: How?\n\nAssistant: No.",
    },
    "spoken answers beside the prompt": {
        "prompt": "How?",
        "chosen": "Assistant: So.",
        "rejected": "\n\nAssistant: No.",
    },
    "Alpaca": {"instruction": "How?", "input": "", "chosen": "So.", "rejected": "No."},
    "one turn": {
        "conversations": [{"from": "human", "value": "How?"}],
        "chosen": {"from": "gpt", "value": "So."},
        "rejected": {"from": "gpt", "value": "No."},
    },
}


@pytest.mark.parametrize("form", PREFERENCES)
def test_preferences(write: Write, form: str) -> None:
    found = data.load(write("a.jsonl", lines(PREFERENCES[form])), minimum=1)
    assert found.kind == "preference"
    assert found.rows == (PREFERENCE,)


def test_preferences_with_system_tools_and_earlier_turns(write: Write) -> None:
    record = {"system": "Be brief.", "question": "How?", "chosen": "So.", "rejected": "No.", "score": 3}
    found = data.load(write("a.jsonl", lines(record)), minimum=1)
    assert found.rows[0].messages == (Message("system", "Be brief."), USER)
    assert "columns not used: score" in found.notes
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    given_tools = {"input": {"messages": [ASKED], "tools": [tool]}, "preferred_output": [SAID]}
    row = only(write("b.jsonl", lines({**given_tools, "non_preferred_output": [REFUSED]})))
    assert row.tools == (Tool("look", "", {"type": "object"}),)
    longer = [ASKED, SAID, {"role": "user", "content": "Why?"}]
    row = only(write("c.jsonl", lines({"chosen": [*longer, SAID], "rejected": [*longer, REFUSED]})))
    assert [message.content for message in row.messages] == ["How?", "So.", "Why?"]
    assert (row.chosen, row.rejected) == ((WANTED,), (OTHER,))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"chosen": "So.", "rejected": "No."}, "answers without a prompt"),
        ({"chosen": [ASKED, SAID], "rejected": [{"role": "user", "content": "Why?"}, SAID]}, "begin differently"),
        ({"prompt": "x", "chosen": "Human: How?\n\nAssistant: So.", "rejected": "Assistant: No."}, "begin differently"),
        ({"prompt": [ASKED], "chosen": [SAID, ASKED], "rejected": [REFUSED]}, "chosen that does not begin and end"),
        ({"prompt": [ASKED, SAID], "chosen": "x", "rejected": "y"}, "ends with the assistant"),
        ({"input": "x", "preferred_output": [SAID], "non_preferred_output": [REFUSED]}, "input that is no object"),
        ({"input": {"messages": 1}, "preferred_output": [], "non_preferred_output": []}, "input holds no list"),
    ],
)
def test_preferences_that_cannot_be_read_name_their_line(write: Write, record: Record, said: str) -> None:
    message = refusal(write("a.jsonl", "\n" + lines(record))).message
    assert "line 2 " in message
    assert said in message


def test_a_mark_that_only_one_answer_begins_with_is_its_own(write: Write) -> None:
    record = {"prompt": "What is an aide?", "chosen": "Assistant: a helper.", "rejected": "No."}
    row = only(write("a.jsonl", lines(record)))
    assert row.chosen == (Message("assistant", "Assistant: a helper."),)


def test_preferences_that_prefer_nothing_are_left_out(write: Write) -> None:
    same = {"prompt": "Why?", "chosen": "So.", "rejected": "So."}
    silent = {"prompt": "Who?", "chosen": "So.", "rejected": ""}
    found = data.load(write("a.jsonl", lines(PREFERENCES["TRL"], same, silent)), minimum=1)
    assert [row.line for row in found.rows] == [1]
    assert "1 row whose two answers are the same is left out (line 2)" in found.notes
    assert "1 row without a prompt or one of the two answers is left out (line 3)" in found.notes


@pytest.mark.parametrize("label", [True, 1, "true", "1", "True", "yes"])
@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "How?", "completion": "So."},
        {"prompt": [ASKED], "completion": [SAID]},
        {"messages": [ASKED, SAID]},
    ],
    ids=["texts", "turns", "messages"],
)
def test_judgements(write: Write, record: Record, label: object) -> None:
    row = only(write("a.jsonl", lines({**record, "label": label})))
    assert row == rows.Judged((USER, WANTED), 1, label=True)


def test_judgements_in_csv_and_labels_that_are_none(write: Write) -> None:
    good = data.load(write("a.csv", "prompt,completion,label\nHow?,So.,True\nWhy?,Thus.,False\n"), minimum=1)
    assert [row.label for row in good.rows] == [True, False]
    assert good.kind == "judged"
    bad = write("b.csv", "prompt,completion,label\nHow?,So.,spam\n")
    assert data.load(bad, minimum=1).kind == "chat"
    records = [{"prompt": "How?", "completion": "So.", "label": True}] * 60
    late = write("c.jsonl", lines(*records, {"prompt": "x", "completion": "y", "label": "perhaps"}))
    assert "line 61 has the label 'perhaps'" in refusal(late).message


def test_prompts_alone_and_with_references(write: Write) -> None:
    alone = data.load(write("a.jsonl", lines({"prompt": "How?"}, {"prompt": [ASKED, SAID, ASKED]})), minimum=1)
    assert alone.kind == "prompt"
    assert alone.rows == (rows.Prompt((USER,), 1), rows.Prompt((USER, WANTED, USER), 2))
    record = {"question": "How?", "answer": "So."}
    assert only(write("b.jsonl", lines(record))).kind == "chat"
    assert only(write("b2.jsonl", lines(record)), kind="prompt") == rows.Prompt((USER,), 1, reference="So.")
    solved = {"prompt": [ASKED], "solution": "42", "difficulty": 3}
    assert only(write("c.jsonl", lines(solved))) == rows.Prompt((USER,), 1, reference="42")
    chat = write("d.jsonl", lines({"messages": [ASKED, SAID]}))
    assert only(chat, kind="prompt") == rows.Prompt((USER,), 1, reference="So.")


def test_texts(write: Write) -> None:
    found = data.load(write("a.jsonl", lines({"text": " Once. "}, {"text": ""}, {"text": "Twice."})), minimum=1)
    assert found.rows == (rows.Document("Once.", 1), rows.Document("Twice.", 3))
    assert "1 place without text is left out (line 2)" in found.notes
    dump = lines({"text": "Once.", "url": "https://example.com", "timestamp": 1})
    assert only(write("b.jsonl", dump)).kind == "text"
    named = data.load(write("c.csv", "body,n\nOnce.,1\n"), minimum=1, columns={"text": "body"})
    assert named.rows == (rows.Document("Once.", 2),)


@pytest.mark.parametrize("header", ["text,label", "sentence,intent", "utterance,category", "Text,Label"])
def test_classes(write: Write, header: str) -> None:
    found = data.load(write("a.csv", f"{header}\nBuy now,spam\nHello,7\n,x\n"), minimum=1)
    assert found.rows == (rows.Labelled("Buy now", "spam", 2), rows.Labelled("Hello", "7", 3))
    assert "1 row without text or class is left out (line 4)" in found.notes
    named = write("b.csv", "question,answer\nBuy now,spam\n")
    assert only(named, columns={"text": "question", "label": "answer"}) == rows.Labelled("Buy now", "spam", 2)


@pytest.mark.parametrize(
    ("record", "pairs"),
    [
        ({"anchor": "a", "positive": "b"}, [rows.Pair("a", "b", line=1)]),
        ({"query": "a", "positive": "b", "negative": "c"}, [rows.Pair("a", "b", ("c",), line=1)]),
        ({"sentence1": "a", "sentence2": "b", "score": 0.5}, [rows.Pair("a", "b", score=0.5, line=1)]),
        ({"question": "a", "passage": "b"}, [rows.Pair("a", "b", line=1)]),
        ({"query": "a", "pos": ["b", "c"], "neg": ["d"]}, [rows.Pair("a", each, ("d",), line=1) for each in "bc"]),
    ],
)
def test_pairs(write: Write, record: Record, pairs: list[rows.Pair]) -> None:
    assert list(data.load(write("a.jsonl", lines(record)), minimum=1).rows) == pairs


def test_questions_and_answers_are_pairs_where_somebody_says_so(write: Write) -> None:
    path = write("a.csv", "question,answer\nHow?,So.\n")
    assert only(path, kind="pair") == rows.Pair("How?", "So.", line=2)
    assert only(path).kind == "chat"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"anchor": "a", "positive": "a"}, "line 1 has the same text on both sides"),
        ({"query": "a", "pos": ["b", "c"], "neg": ["c"]}, "line 1 has a text that belongs to it and does not"),
    ],
)
def test_pairs_that_tell_nothing(write: Write, record: Record, said: str) -> None:
    assert said in refusal(write("a.jsonl", lines(record))).message
    scored = {"sentence1": "a", "sentence2": "a", "score": 5}
    assert only(write("b.jsonl", lines(scored))) == rows.Pair("a", "a", score=5.0, line=1)


@pytest.mark.parametrize("score", ["high", "nan", [1]])
def test_scores_that_are_no_numbers(write: Write, score: object) -> None:
    record = {"sentence1": "a", "sentence2": "b", "score": score}
    assert f"line 1 has the score {score!r}" in refusal(write("a.jsonl", lines(record))).message


def test_a_pair_without_a_side_is_left_out(write: Write) -> None:
    records = [{"anchor": "a", "positive": "b"}, {"anchor": "", "positive": "b"}, {"anchor": "a", "positive": []}]
    found = data.load(write("a.jsonl", lines(*records)), minimum=1)
    assert len(found.rows) == 1
    assert "2 pairs with an empty side are left out (line 2, 3)" in found.notes


TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    "given_tools",
    [
        [{"type": "function", "function": TOOL}],
        [TOOL],
        [{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}],
        json.dumps([TOOL]),
    ],
    ids=["OpenAI", "flat", "Anthropic", "JSON text"],
)
@pytest.mark.parametrize("key", ["tools", "functions"])
def test_tools(write: Write, given_tools: object, key: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns = [ASKED, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    row = only(write("a.jsonl", lines({"messages": [*turns, SAID], key: given_tools})))
    assert row.tools == (Tool("look", "Looks.", {"type": "object"}),)
    assert row.messages[1].tool_calls == (ToolCall("c", "look", "{}"),)
    assert row.messages[2] == Message("tool", "1", (), "c")


@pytest.mark.parametrize(
    ("given_tools", "said"),
    [
        ("look", "tools that are not JSON"),
        ({"name": "look"}, "tools that are no list"),
        ([5], "tool 1 is no function"),
        ([TOOL, {"name": "no blanks"}], "tool 2 cannot be used"),
        ([{"function": {"description": "x"}}], "tool 1 cannot be used"),
    ],
)
def test_tools_that_cannot_be_used(write: Write, given_tools: object, said: str) -> None:
    message = refusal(write("a.jsonl", lines({"messages": [ASKED, SAID], "tools": given_tools}))).message
    assert "line 1" in message
    assert said in message


def test_calls_as_older_and_other_tools_write_them(write: Write) -> None:
    older = [ASKED, {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}]
    result = [{"role": "function", "name": "look", "content": "1"}, SAID]
    row = only(write("a.jsonl", lines({"messages": [*older, *result]})))
    assert row.messages[1].tool_calls == (ToolCall("", "look", "{}"),)
    assert row.messages[2].role == "tool"
    turns = [
        {"from": "human", "value": "How?"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "1"},
        {"from": "gpt", "value": "So."},
    ]
    row = only(write("b.jsonl", lines({"conversations": turns, "system": "Be brief."})))
    assert row.messages[0] == Message("system", "Be brief.")
    assert row.messages[2].tool_calls == (ToolCall("", "look", '{"a":1}'),)
    turns[1] = {"from": "function_call", "value": "look at it"}
    assert "turn 2 is no tool call in JSON" in refusal(write("c.jsonl", lines({"conversations": turns}))).message


def test_weights_stay_with_their_messages(write: Write) -> None:
    turns = [ASKED, {**SAID, "weight": 0}, ASKED, {**SAID, "weight": 1}, ASKED]
    path = write("a.jsonl", lines({"messages": turns}))
    assert only(path).weights == (1.0, 0.0, 1.0, 1.0)
    assert only(path, system="Be brief.").weights == (1.0, 1.0, 0.0, 1.0, 1.0)
    whole = write("b.jsonl", lines({"messages": [ASKED, {**SAID, "weight": 1}]}))
    assert only(whole).weights == ()
    for weight in (2, -1, True, "0"):
        bad = write("c.jsonl", lines({"messages": [ASKED, {**SAID, "weight": weight}]}))
        assert f"turn 2 has the weight {weight!r}" in refusal(bad).message


def test_turns_after_the_last_answer_are_cut_and_told(write: Write) -> None:
    found = data.load(
        write("a.jsonl", lines({"messages": [ASKED, SAID]}, {"messages": [ASKED, SAID, ASKED]})), minimum=1
    )
    assert "1 conversation has turns after the last answer: they are cut off (line 2)" in found.notes
    assert {finding.action for finding in found.findings} == {"cut", "dropped"}


SILENCE: Record = {"role": "assistant", "content": " "}
UNLEARNED = "1 row has an answer that says nothing amid the conversation: it is not learned (line 1)"


def test_an_answer_that_says_nothing_is_not_learned(write: Write) -> None:
    """Else the model learns to end its answer at once."""
    found = data.load(write("a.jsonl", lines({"messages": [ASKED, SILENCE, ASKED, SAID]})), minimum=1)
    assert found.rows[0].weights == (1.0, 0.0, 1.0, 1.0)
    assert UNLEARNED in found.notes
    prompted = {"prompt": [ASKED, SILENCE, ASKED], "completion": [SAID]}
    found = data.load(write("b.jsonl", lines(prompted)), minimum=1)
    assert found.rows[0].weights == (1.0, 0.0, 1.0, 1.0)
    assert UNLEARNED in found.notes
    weighed = {"messages": [ASKED, {**SILENCE, "weight": 0}, ASKED, SAID]}
    assert data.load(write("c.jsonl", lines(weighed)), minimum=1).findings == ()
    thought = {"messages": [ASKED, {**SILENCE, "reasoning": "Hm."}, ASKED, SAID]}
    assert only(write("d.jsonl", lines(thought))).weights == ()


def test_an_answer_at_the_end_that_says_nothing_is_cut_off(write: Write) -> None:
    found = data.load(write("a.jsonl", lines({"messages": [ASKED, SAID, ASKED, SILENCE]})), minimum=1)
    assert found.rows == (rows.Row((USER, WANTED), 1),)
    assert [finding.check for finding in found.findings] == ["turns"]


def test_prompt_and_completion_as_turns(write: Write) -> None:
    record = {"prompt": [{"role": "system", "content": "Be brief."}, ASKED], "completion": [SAID]}
    assert only(write("a.jsonl", lines(record))).messages == (Message("system", "Be brief."), USER, WANTED)


def test_a_list_where_text_is_wanted_is_no_text(write: Write) -> None:
    """It would be learned as Python spells it."""
    records = [{"question": "How?", "answer": "So."}, {"question": "Why?", "answer": ["a", "b"]}]
    assert "line 2 turn" not in refusal(write("a.jsonl", lines(*records))).message
    assert "holds no text in column 'answer'" in refusal(write("a.jsonl", lines(*records))).message


def test_rows_that_a_model_wrote_say_so(write: Write) -> None:
    record = {"messages": [ASKED, SAID]}
    marked = [{**record, "synthetic": mark} for mark in ("starter", True, False, "", None)]
    found = data.load(write("a.jsonl", lines(*marked)), minimum=1, repetitions=True)
    assert [row.synthetic for row in found.rows] == ["starter", "a model", "", "", ""]


def test_a_kind_that_the_records_are_not(write: Write) -> None:
    path = write("a.jsonl", lines({"question": "How?", "answer": "So."}))
    assert "no labelled rows; columns: question, answer" in refusal(path, kind="labelled").message
    assert "unknown kind 'dpo'" in refusal(path, kind="dpo").message


def test_the_user_names_what_is_whose(write: Write) -> None:
    text = "a,b,c\nHow?,So.,No.\n"
    named = {"user": "a", "chosen": "b", "rejected": "c"}
    assert only(write("x.csv", text), columns=named) == msgspec.structs.replace(PREFERENCE, line=2)
    named = {"anchor": "a", "positive": "b", "negative": "c"}
    assert only(write("x.csv", text), columns=named) == rows.Pair("How?", "So.", ("No.",), line=2)
    named = {"user": "a", "assistant": "b"}
    assert only(write("x.csv", text), columns=named) == rows.Row((USER, WANTED), 2)


@given(st.lists(st.dictionaries(st.sampled_from(
    ["messages", "prompt", "completion", "chosen", "rejected", "label", "text", "input", "tools", "pos", "query"]
), st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "weight", "tool_calls"]), st.text(max_size=9), max_size=3),
    max_size=3)), max_size=6), min_size=1, max_size=6))  # fmt: skip
@settings(max_examples=150)
def test_any_records_are_read_or_refused_by_name(records: Iterable[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text(lines(*records))
        try:
            found = data.load(path, minimum=0, broken="drop")
        except BadData as error:
            said = error.line()
        else:
            said = " ".join(finding.said() for finding in found.findings)
            dropped = sum(finding.rows for finding in found.findings if finding.action == "dropped")
            assert len(found.rows) + dropped >= found.records
    assert "\n" not in said
