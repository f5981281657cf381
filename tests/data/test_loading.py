"""What is wrong in a file is counted, named, and done with as was asked: never silently."""

import json
from pathlib import Path
from typing import Any

import pytest

from freehold import data
from freehold.core.errors import BadData
from freehold.core.request import Message
from tests.data.conftest import PAIRS, Write

GOOD = "".join(f'"{q}","{a}"\n' for q, a in PAIRS)
BROKEN = "question,answer\n" + "a,b,c\n" + GOOD + "alone\n" + "x,y,z\n"


def _findings(path: Path, **options: Any) -> dict[str, Any]:
    return {finding.check: finding for finding in data.load(path, **options).findings}


def test_the_first_broken_row_is_said_and_the_others_are_counted(write: Write) -> None:
    with pytest.raises(BadData) as caught:
        data.load(write("a.csv", BROKEN))
    last = len(PAIRS) + 3
    assert f"line 2 has 3 fields where the header has 2; 2 more are wrong ({last}, {last + 1})" in caught.value.message
    assert "freehold data check" in caught.value.remedy


def test_broken_rows_are_left_out_where_that_is_asked(write: Write) -> None:
    found = data.load(write("a.csv", BROKEN), broken="drop")
    assert len(found.rows) == len(PAIRS)
    assert found.records == len(PAIRS) + 3
    [finding] = found.findings
    assert (finding.check, finding.action, finding.rows) == ("broken", "dropped", 3)
    assert finding.named[0].line == 2
    assert finding.named[0].reason == "has 3 fields where the header has 2"
    assert finding.said() in found.notes


def test_broken_rows_of_a_list_are_refused_but_told(write: Write) -> None:
    finding = _findings(write("a.csv", BROKEN), broken="list")["broken"]
    assert finding.action == "refused"
    assert "nothing is made of the file unless broken rows are mended or dropped" in finding.text


def test_rows_that_cannot_be_read_and_rows_that_make_no_sense_are_told_in_order(write: Write) -> None:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    lines = ["{", json.dumps({"messages": [{"role": "narrator"}]}), "[]", json.dumps({"messages": turns})]
    finding = _findings(write("a.jsonl", "\n".join(lines)), broken="list", minimum=1)["broken"]
    assert [(each.line, each.reason.split(":")[0]) for each in finding.named] == [
        (1, "is not JSON"),
        (2, "turn 1 has the role 'narrator'"),
        (3, "is not an object"),
    ]


def test_a_file_of_broken_rows_alone_is_no_data(write: Write) -> None:
    with pytest.raises(BadData, match=r"line 1 is not JSON: .*; 1 more is wrong"):
        data.load(write("a.jsonl", "{\n{\n"), broken="drop")


@pytest.mark.parametrize("option", [{"broken": "ignore"}, {"pii": "sell"}])
def test_ways_that_there_are_not(write: Write, option: dict[str, Any]) -> None:
    with pytest.raises(BadData, match="unknown way") as caught:
        data.load(write("a.csv", BROKEN), **({"broken": "drop"} | option))
    assert "Known: " in caught.value.remedy


def test_an_array_counts_items(write: Write) -> None:
    items = [{"question": "x", "answer": "y"}, 5, {"question": "", "answer": "y"}]
    found = data.load(write("a.json", json.dumps(items)), minimum=1, broken="drop")
    assert found.unit == "item"
    assert [finding.said() for finding in found.findings] == [
        "1 broken row is left out (item 2: is not an object)",
        "1 row without question or answer is left out (item 3)",
    ]


def test_the_one_list_in_an_object_holds_the_rows(write: Write) -> None:
    rows = [{"input": q, "target": a} for q, a in PAIRS]
    found = data.load(write("a.json", json.dumps({"name": "desk", "examples": rows}, indent=1)))
    assert len(found.rows) == len(PAIRS)
    assert "the rows are the list 'examples'" in found.notes
    two = {"train": rows, "test": rows}
    with pytest.raises(BadData, match="holds no array; lists in it: 'train', 'test'"):
        data.load(write("b.json", json.dumps(two)))
    lines = data.load(write("c.json", "".join(json.dumps(row) + "\n" for row in rows)))
    assert len(lines.rows) == len(PAIRS)


PRIVATE = [("Who are you?", "Write to ann@example.org."), ("Call me", "On 555-234-5678, or bob@example.org.")]


def _with_private(write: Write) -> Path:
    return write("a.csv", "question,answer\n" + GOOD + "".join(f'"{q}","{a}"\n' for q, a in PRIVATE))


def test_personal_data_stays_unless_something_is_asked(write: Write) -> None:
    found = data.load(_with_private(write))
    assert len(found.rows) == len(PAIRS) + 2
    assert found.findings == ()


def test_personal_data_is_masked(write: Write) -> None:
    found = data.load(_with_private(write), pii="mask")
    assert [row.answer for row in found.rows[-2:]] == ["Write to [email].", "On [phone], or [email]."]
    line = len(PAIRS) + 2
    assert [finding.said() for finding in found.findings] == [
        f"2 rows hold e-mail addresses: masked as [email] (line {line}, {line + 1})",
        f"1 row holds telephone numbers: masked as [phone] (line {line + 1})",
    ]
    assert {finding.action for finding in found.findings} == {"masked"}


def test_rows_with_personal_data_are_left_out(write: Write) -> None:
    found = data.load(_with_private(write), pii="drop")
    assert len(found.rows) == len(PAIRS)
    [finding] = found.findings
    assert finding.text == "2 rows with personal data are left out"
    assert finding.named[1].reason == "e-mail addresses, telephone numbers"


def test_rows_that_masking_makes_equal_are_one(write: Write) -> None:
    rows = [("Who?", "ann@example.org"), ("Who?", "bob@example.org")]
    path = write("a.csv", "question,answer\n" + "".join(f"{q},{a}\n" for q, a in rows))
    assert [row.answer for row in data.load(path, minimum=1, pii="mask").rows] == ["[email]"]


def test_a_system_message_opens_whatever_is_a_conversation(write: Write) -> None:
    preference = write("a.jsonl", json.dumps({"prompt": "How?", "chosen": "So.", "rejected": "No."}))
    [row] = data.load(preference, minimum=1, system="Be brief.").rows
    assert row.messages[0] == Message("system", "Be brief.")
    [text] = data.load(write("b.jsonl", '{"text": "Once."}'), minimum=1, system="Be brief.").rows
    assert text.text == "Once."


def test_what_a_dataset_says_of_itself(write: Write) -> None:
    found = data.load(
        write("a.csv", "id,question,answer\n" + "".join(f'{n},"{q}","{a}"\n' for n, (q, a) in enumerate(PAIRS)))
    )
    assert (found.format, found.kind, found.unit, found.records) == ("csv", "chat", "line", len(PAIRS))
    assert found.digest == data.digest_rows(found.rows)
    assert found.notes == found.assumed
    assert "columns not used: id" in found.assumed
