"""Whose column it is: by its name however that is written, by the user's word before all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadData
from freehold.core.request import Message
from freehold.data import columns

NAMES = [(role, name) for role, names in columns.NAMES.items() for name in names]


def written(name: str, style: str) -> str:
    words = name.split()
    if style == "camel":
        return " ".join(words).title()
    return {"snake": "_", "kebab": "-", "plain": " "}[style].join(words).upper() + ("  " if style == "plain" else "")


@given(st.sampled_from(NAMES), st.sampled_from(["snake", "kebab", "plain", "camel"]))
def test_a_known_name_is_known_however_it_is_written(known: tuple[str, str], style: str) -> None:
    role, name = known
    header = written(name, style)
    found = columns.guess(["id", header, "other"], {})
    assert found[role] == header
    assert set(found) == {role}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (["text", "question", "answer"], {"user": "question", "assistant": "answer"}),
        (["Customer Message", "agent_reply"], {"user": "Customer Message", "assistant": "agent_reply"}),
        (["prompt", "completion", "system"], {"user": "prompt", "assistant": "completion", "system": "system"}),
        (["instruction", "input", "output"], {"user": "instruction", "input": "input", "assistant": "output"}),
        (["Instruction", "INPUT", "Output", "answer"],
         {"user": "Instruction", "input": "INPUT", "assistant": "Output"}),
        (["input", "output"], {"user": "input", "assistant": "output"}),
        (["question", "Question", "answer"], {"user": "question", "assistant": "answer"}),
        (["response", "answer", "query"], {"user": "query", "assistant": "answer"}),
    ],
)  # fmt: skip
def test_of_several_the_surest_name_counts(header: list[str], found: dict[str, str]) -> None:
    assert columns.find(header, {}) == found


def test_what_the_user_says_goes_before_names() -> None:
    header = ["question", "answer", "better"]
    assert columns.find(header, {"assistant": "better"}) == {"user": "question", "assistant": "better"}
    assert columns.find(header, {"user": "answer", "assistant": "better"})["user"] == "answer"
    assert columns.find(["instruction", "input", "output"], {"user": "input"}) == {
        "user": "input", "assistant": "output",
    }  # fmt: skip
    with pytest.raises(BadData, match="assistant's text"):
        columns.find(["question", "answer"], {"user": "answer"})


@pytest.mark.parametrize(
    ("header", "missing"), [([], "user"), (["a", "b"], "user"), (["question"], "assistant"), (["answer"], "user")]
)
def test_columns_that_nobody_knows_are_listed(header: list[str], missing: str) -> None:
    with pytest.raises(BadData, match=f"hold the {missing}'s text") as caught:
        columns.find(header, {})
    assert all(name in caught.value.message for name in header)
    assert "[data] columns" in caught.value.remedy


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"usr": "a"}, "'usr' is no role (did you mean 'user'?)"),
        ({"user": "anwser"}, "there is no column 'anwser' (did you mean 'answer'?)"),
        ({"user": "zzz"}, "there is no column 'zzz'"),
    ],
)
def test_wrong_words_of_the_user(named: dict[str, str], said: str) -> None:
    with pytest.raises(BadData) as caught:
        columns.check_named(["answer", "question"], named)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"), (" a\r\nb ", "a\nb"), (None, ""), (math.nan, ""), (0, "0"), (12.5, "12.5"), (False, "False"),
        (b"caf\xc3\xa9", "café"), ("", ""), (" \t\n", ""), (" So.", "So."), ("\n\nSo.\n", "So."),
        ("    y = x\n    return y\n", "    y = x\n    return y"), ("\n \n\treturn", "\treturn"), ("\u3000\xa0a", "a"),
    ],
)  # fmt: skip
def test_what_stands_in_a_cell(value: object, text: str) -> None:
    assert columns.text({"x": value}, "x") == text
    assert columns.text({"x": value}, None) == columns.text({"x": value}, "y") == ""


@pytest.mark.parametrize(("value", "said"), [(b"\xff", "not UTF-8"), ([1], "no text"), ({"a": 1}, "no text")])
def test_what_is_no_text(value: object, said: str) -> None:
    with pytest.raises(BadData, match=f"{said} in column 'x'"):
        columns.text({"x": value}, "x")


def test_a_column_without_a_name_belongs_to_no_role() -> None:
    assert columns.text({None: "surplus"}, None) == ""  # type: ignore[dict-item]


ALPACA = {"user": "instruction", "input": "input", "assistant": "output", "system": "system"}


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"instruction": "Add", "input": "1 2", "output": "3"}, [("user", "Add\n\n1 2"), ("assistant", "3")]),
        ({"instruction": "Add", "input": "", "output": "3"}, [("user", "Add"), ("assistant", "3")]),
        ({"instruction": "", "input": "1 2", "output": "3"}, [("user", "1 2"), ("assistant", "3")]),
        (
            {"instruction": "Add", "output": "3", "system": "Be exact."},
            [("system", "Be exact."), ("user", "Add"), ("assistant", "3")],
        ),
        ({"instruction": "Add", "output": " "}, None),
        ({"instruction": " ", "output": "3", "system": "Be exact."}, None),
    ],
)
def test_the_conversation_in_a_record(record: dict[str, str], turns: list[tuple[str, str]] | None) -> None:
    found = columns.messages(record, ALPACA)
    assert found == (None if turns is None else tuple(Message(role, text) for role, text in turns))  # type: ignore[arg-type]
