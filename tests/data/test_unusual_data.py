"""Files as people's own tools leave them: what is read, what is left out and told, and what is refused by name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from freehold import data
from freehold.core.errors import BadData
from freehold.core.request import Message, Tool, ToolCall
from freehold.data import rows
from tests.data.conftest import PAIRS, Write
from tests.data.files import pdf, row, workbook


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def loaded(path: Path, **options: Any) -> data.Dataset:
    return data.load(path, **{"minimum": 1, **options})


def said(path: Path, **options: Any) -> list[tuple[str, str]]:
    """Question and answer of every row."""
    return [(row.question, row.answer) for row in loaded(path, **options).rows]


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(BadData) as caught:
        loaded(path, **options)
    assert "\n" not in caught.value.line()
    assert caught.value.remedy
    return caught.value.message


# Encodings: PowerShell's `>` writes UTF-16, whatever the file is called.
UTF16 = {
    "a.json": (json.dumps([{"prompt": "Où?", "completion": "Là."}]), "json"),
    "b.json": (json.dumps({"data": [{"prompt": "Où?", "completion": "Là."}]}), "json"),
    "a.jsonl": (lines({"prompt": "Où?", "completion": "Là."}), "jsonl"),
    "a.data": (lines({"prompt": "Où?", "completion": "Là."}), "jsonl"),
    "a.csv": ("prompt,completion\r\nOù?,Là.\r\n", "csv"),
}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("name", UTF16)
def test_what_kind_of_file_it_is_shows_in_every_encoding(write: Write, name: str, encoding: str) -> None:
    content, format = UTF16[name]
    text = content.encode("utf-16").decode("utf-16")
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    path = write(name, (mark + text).encode(encoding))
    assert said(path) == [("Où?", "Là.")]
    assert loaded(path).format == format


def test_prose_in_utf_16_is_prose(write: Write) -> None:
    found = loaded(write("a.txt", "Once, upon a time.\nThere was, as ever, a king.\n".encode("utf-16")))
    assert (found.format, found.kind) == ("text", "text")
    assert found.rows[0].question.startswith("Once, upon")


# CSV
CSV = {
    "empty columns at the end": "question,answer,,,\nHow?,So.,,,\n",
    "an empty column amid": "question,,answer,\nHow?,,So.,\n",
    "the separator said for Excel": "sep=;\r\nquestion;answer\r\nHow?;So.\r\n",
    "the same in quotes": '"sep=|"\nquestion|answer\nHow?|So.\n',
    "and it is a tab": "SEP=\t\nquestion\tanswer\nHow?\tSo.\n",
    "lines of blanks": "   \nquestion,answer\n  \t \nHow?,So.\n \n",
    "old line ends": "question,answer\rHow?,So.\r",
    "a header in quotes": '"question","answer"\n"How?","So."\n',
    "blanks around names": " question , answer \nHow?,So.\n",
    "no line end": "question,answer\nHow?,So.",
    "names as people write them": "Customer_Message,Agent-Reply\nHow?,So.\n",
}


@pytest.mark.parametrize("form", CSV)
def test_csv_as_it_comes(write: Write, form: str) -> None:
    assert said(write("a.csv", CSV[form])) == [("How?", "So.")]


def test_columns_without_a_name_are_told_once_and_those_with_one_differ(write: Write) -> None:
    path = write("a.csv", "question,answer,,\nHow?,So.,x,y\n")
    assert "columns not used: (without a name)" in loaded(path).notes
    assert "two columns named 'answer'" in refusal(write("b.csv", "answer,answer,,\nx,y,,\n"))


def test_lines_are_counted_as_an_editor_counts_them(write: Write) -> None:
    """After the line for Excel, lines of blanks and a cell of three lines, too."""
    content = 'sep=,\nquestion,answer\n  \n"How\nmany\ndays?",Two.\nToo,many,fields\n'
    path = write("a.csv", content)
    assert "line 7 has 3 fields where the header has 2" in refusal(path)
    found = loaded(path, broken="drop")
    assert [(row.line, row.question) for row in found.rows] == [(4, "How\nmany\ndays?")]


def test_a_first_line_that_only_looks_like_excels_is_a_header(write: Write) -> None:
    path = write("a.csv", "sep=x,answer\nHow?,So.\n")
    assert said(path, columns={"user": "sep=x"}) == [("How?", "So.")]
    assert "has no rows" in refusal(write("b.csv", "sep=;\n"))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("title", ["Export of 2024-01-01{0}{0}", "Our export", '"Export, all; of it"\n"Help\tdesk"'])
def test_a_title_above_the_names_of_the_columns(write: Write, title: str, mark: str) -> None:
    above = title.format(mark)
    path = write("a.csv", f"{above}\nquestion{mark}answer{mark}n\nWho?{mark}We.{mark}1\n")
    assert said(path) == [("Who?", "We.")]
    line = above.count("\n") + 2
    assert f"line {line} names the columns: what stands above it is taken for a title" in loaded(path).notes


def test_a_title_above_names_that_nobody_knows_is_told_to_be_deleted(write: Write) -> None:
    for text in ("Export\nFrage,Antwort\nWann?,Um 9.\n", "Export,\nFrage,Antwort\nWann?,Um 9.\n"):
        with pytest.raises(BadData) as caught:
            loaded(write("a.csv", text))
        assert caught.value.remedy.startswith("If a title stands above the columns' names, delete it.")


def test_cells_keep_what_is_theirs(write: Write) -> None:
    cells = ['a "quoted" word', "two\r\nlines", "comma, semicolon; bar| tab\t", "'apostrophes'", "=1+1", "−5 €", "NULL"]
    body = "".join(f'q{number},"{cell.replace(chr(34), chr(34) * 2)}"\n' for number, cell in enumerate(cells))
    answers = [answer for _, answer in said(write("a.csv", "question,answer\n" + body))]
    assert answers == [cell.replace("\r\n", "\n").strip() for cell in cells]


CODE = "    y = x\n    return y"


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "def f(x):\n", "completion": f"{CODE}\n"},
        {"prompt": [{"role": "user", "content": "def f(x):"}], "completion": f"\n{CODE}"},
        {"messages": [{"role": "user", "content": "def f(x):"}, {"role": "assistant", "content": CODE}]},
        {"prompt": "def f(x):", "chosen": CODE, "rejected": "pass"},
        {"text": CODE},
    ],
    ids=["texts", "turns", "messages", "preference", "text"],
)
def test_code_is_learned_with_its_indentation(write: Write, record: Any) -> None:
    [row] = loaded(write("a.jsonl", lines(record))).rows
    assert (row.answer or row.question) == CODE


def test_cells_of_code_keep_their_indentation_and_aligned_ones_have_none(write: Write) -> None:
    text = f'prompt   ,   completion\ndef f(x):,"{CODE}"\nHow?     ,   So.   \n'
    assert said(write("a.csv", text)) == [("def f(x):", CODE), ("How?", "So.")]


def test_naming_the_answer_leaves_its_column_to_the_answer(write: Write) -> None:
    text = write("a.csv", "message,text\nSo.,How?\n")
    assert said(text, columns={"assistant": "message"}) == [("How?", "So.")]
    error = refusal(write("b.csv", "message,category\nSo.,x\n"), columns={"assistant": "message"})
    assert "the user's text" in error, "the answer is named: what is missing is the question"


# Spreadsheets
def test_cells_in_which_a_formula_failed_say_nothing(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    cells = [("question", "answer"), ("How?", "#N/A"), ("#REF!", "So."), ("Why?", "Thus: #N/A is no number")]
    sheet = "".join(row(number, each) for number, each in enumerate(cells, 1))
    found = loaded(workbook(tmp_path / "a.xlsx", {"S": sheet}))
    assert [each.line for each in found.rows] == [4]
    assert "2 rows without question or answer are left out (row 2, 3)" in found.notes


def test_formulas_give_what_was_last_computed(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    computed = '<row r="2"><c r="A2" t="str"><f>A1</f><v>How?</v></c><c r="B2"><f>1+1</f><v>2.5</v></c></row>'
    never = '<row r="3"><c r="A3"><f>B1</f></c><c r="B3"><f>1+1</f></c></row>'
    failed = '<row r="4"><c r="A4" t="e"><f>1/0</f><v>#DIV/0!</v></c><c r="B4"><v>1</v></c></row>'
    path = workbook(tmp_path / "a.xlsx", {"S": row(1, ("question", "answer")) + computed + never + failed})
    assert said(path) == [("How?", "2.5")]


# Two habits in one file
QA, PC = {"question": "How?", "answer": "So."}, {"prompt": "Why?", "completion": "Thus."}


def test_of_two_habits_the_commoner_is_read_and_the_other_named(write: Write) -> None:
    path = write("a.jsonl", lines(QA, PC, PC, PC))
    assert "line 1 has no column 'prompt', as other rows have, but 'question', 'answer'" in refusal(path)
    assert [row.line for row in loaded(path, broken="drop").rows] == [2]
    path = write("b.jsonl", lines(QA, PC, QA, PC))
    assert "line 2 has no column 'question', as other rows have, but 'prompt', 'completion'; 1 more" in refusal(path)
    texts = lines({"text": "Once."}, *[{"content": f"Twice {number}."} for number in range(3)])
    assert "line 1 has no column 'content'" in refusal(write("c.jsonl", texts), kind="text")
    turns = lines({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, QA)
    assert "line 2 has no column 'messages', as other rows have, but 'question'" in refusal(write("d.jsonl", turns))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"question": "Why?", "completion": "Thus."},
            "the assistant's text in column 'completion', other rows in 'answer'",
        ),
        ({"query": "Why?", "answer": "Thus."}, "the user's text in column 'query', other rows in 'question'"),
        ({"question": None, "answer": None, **PC}, "the user's text in column 'prompt', other rows in 'question'"),
    ],
)
def test_a_text_that_stands_in_another_column_is_no_missing_one(write: Write, record: Any, said: str) -> None:
    assert f"line 3 has {said}" in refusal(write("a.jsonl", lines(QA, QA, record)))


@pytest.mark.parametrize(
    "record",
    [{"question": "Why?"}, {"question": "", "answer": "x", "text": "y"}, {"question": None, "answer": "", "text": "y"}],
)
def test_a_row_that_nobody_answered_is_left_out(write: Write, record: Any) -> None:
    found = loaded(write("a.jsonl", lines(QA, record)))
    assert [row.line for row in found.rows] == [1]
    assert "1 row without question or answer is left out (line 2)" in found.notes


def test_a_column_that_few_rows_lack_is_not_left_for_another(write: Write) -> None:
    rows = [{**QA, "text": str(number)} for number in range(3)]
    found = loaded(write("a.jsonl", lines(*rows, {"text": "4", "answer": "x", "question": None})))
    assert found.columns == {"user": "question", "assistant": "answer"}


# Parquet: nested columns, where what one row lacks is null in it.
def parquet(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    files.write_table(pa.Table.from_pylist(list(records)), path)
    return path


ASKED, SAID = {"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}


def test_conversations_in_parquet_with_calls_in_some_rows(tmp_path: Path) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "content": "1", "tool_call_id": "c"}
    tools = json.dumps([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}])
    records = [{"messages": [ASKED, called, result, SAID], "tools": tools}, {"messages": [ASKED, SAID], "tools": None}]
    first, second = loaded(parquet(tmp_path / "a.parquet", records)).rows
    assert isinstance(first, rows.Row)
    assert first.messages[1].tool_calls == (ToolCall("c", "look", '{"a": 1}'),)
    assert first.tools == (Tool("look", "", {"type": "object"}),)
    assert second == rows.Row((Message("user", "How?"), Message("assistant", "So.")), 2)


def test_rows_of_two_habits_in_one_parquet_file(tmp_path: Path) -> None:
    """ShareGPT's turns beside OpenAI's: the columns of both are in every turn."""
    old = {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Thus."}]}
    mixed = [*old["conversations"], {"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    path = parquet(tmp_path / "a.parquet", [{"conversations": mixed}, old])
    assert [row.question for row in loaded(path).rows] == ["Why?\nHow?", "Why?"]
    assert [row.answer for row in loaded(path).rows] == ["So.", "Thus."]


def test_preferences_and_weights_in_parquet(tmp_path: Path) -> None:
    chosen, rejected = [SAID], [{"role": "assistant", "content": "No."}]
    path = parquet(tmp_path / "a.parquet", [{"prompt": [ASKED], "chosen": chosen, "rejected": rejected, "margin": 0.5}])
    [found] = loaded(path).rows
    assert isinstance(found, rows.Preference)
    assert (found.answer, found.rejected[0].content) == ("So.", "No.")
    turns = [ASKED, {**SAID, "weight": 0.0}, ASKED, {**SAID, "content": "Thus.", "weight": None}]
    [weighed] = loaded(parquet(tmp_path / "b.parquet", [{"messages": turns}])).rows
    assert isinstance(weighed, rows.Row)
    assert weighed.weights == (1.0, 0.0, 1.0, 1.0)


def test_a_column_of_structures_is_no_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"question": "How?", "answer": {"text": "So."}}])
    assert "row 1 holds no text in column 'answer'" in refusal(path)


# Conversations
@pytest.mark.parametrize(
    "turns",
    [
        [{"from": "human", "value": "How?"}, {"from": "gpt", "value": "So."}],
        [{"from": "Human", "value": "How?"}, {"from": "bot", "value": "So."}],
        [{"role": "user", "content": [{"type": "text", "text": "How"}, {"type": "text", "text": "?"}]}, SAID],
        [{"role": None, "from": "user", "content": None, "value": "How?"}, {"from": "assistant", "value": "So."}],
        [{"role": "user", "content": "How?", "value": "no"}, {**SAID, "weight": 1, "name": None, "tool_calls": []}],
        [ASKED, SAID, {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": None, "weight": 0}],
    ],
    ids=["ShareGPT", "names of roles", "parts", "both habits", "one habit wins", "silence at the end"],
)
def test_turns_as_they_come(write: Write, turns: list[dict[str, Any]]) -> None:
    [found] = loaded(write("a.jsonl", lines({"conversations": turns}))).rows
    assert isinstance(found, rows.Row)
    assert found.messages[:2] == (Message("user", "How?"), Message("assistant", "So."))


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"from": "narrator", "value": "x"}, "turn 2 has the role 'narrator'"),
        ({"value": "x"}, "turn 2 has the role None"),
        ({"role": "", "from": "gpt", "value": "x"}, "turn 2 has the role ''"),
        (
            {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "turn 2 has content that is not text",
        ),
        ({"role": "assistant", "content": 5}, "turn 2 has content that is not text"),
        ({"role": "assistant", "content": "x", "weight": "half"}, "turn 2 has the weight 'half'"),
        ({"from": "function_call", "value": '{"name": "f"}'}, "turn 2 has a tool call without 'arguments'"),
        ({"from": "function_call", "value": "[1]"}, "turn 2 has a tool call without"),
    ],
)
def test_turns_that_cannot_be_read_name_their_place(write: Write, turn: dict[str, Any], words: str) -> None:
    assert f"line 2 {words}" in refusal(write("a.jsonl", "\n" + lines({"messages": [ASKED, turn]})))


def test_a_chat_whose_assistant_begins_is_told_and_can_be_done_without(write: Write) -> None:
    greeting = [{"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "How?"}, {"from": "gpt", "value": "So."}]
    path = write("a.jsonl", lines({"conversations": greeting}, {"conversations": greeting[1:]}))
    assert "line 1 does not begin with the user" in refusal(path)
    found = loaded(path, broken="drop")
    assert [row.line for row in found.rows] == [2]
    assert "1 broken row is left out" in " ".join(found.notes)


def test_what_stands_beside_turns_is_told_where_it_is_not_used(write: Write) -> None:
    record = {"messages": [ASKED, SAID], "images": ["a.png"], "id": 7, "tools": "[]"}
    assert "columns not used: images, id" in loaded(write("a.jsonl", lines(record))).notes


def test_alpaca_with_and_without_input(write: Write) -> None:
    records = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3", "history": []},
        {"instruction": "Greet.", "input": "", "output": "Hi."},
        {"instruction": "Wave.", "input": None, "output": "Ho."},
        {"instruction": "", "input": "only input", "output": "x"},
        {"instruction": "Nothing.", "input": "", "output": "  "},
    ]
    found = loaded(write("a.json", json.dumps(records)))
    assert [row.question for row in found.rows] == ["Add.\n\n1 and 2", "Greet.", "Wave.", "only input"]
    assert "1 row without question or answer is left out (item 5)" in found.notes
    assert "columns not used: history" in found.notes


# Judgements and preferences
@pytest.mark.parametrize("labels", [("1.0", "0.0"), ("TRUE", "FALSE"), ("yes", "no"), (" 1 ", "0")])
def test_judgements_as_pandas_and_spreadsheets_write_them(write: Write, labels: tuple[str, str]) -> None:
    """Else wanted and unwanted answers would be learned alike."""
    body = "".join(f"q{number},a{number},{label}\n" for number, label in enumerate(labels))
    found = loaded(write("a.csv", "prompt,completion,label\n" + body))
    assert found.kind == "judged"
    assert [row.label for row in found.rows if isinstance(row, rows.Judged)] == [True, False]


def test_judgements_in_json_of_every_type(write: Write) -> None:
    records = [{"prompt": f"q{n}", "completion": "a", "label": label} for n, label in enumerate((1.0, 0, False, "1"))]
    found = loaded(write("a.jsonl", lines(*records))).rows
    assert [row.label for row in found if isinstance(row, rows.Judged)] == [True, False, False, True]
    assert "line 1 has the label None" in refusal(
        write("b.jsonl", lines({**records[0], "label": None}, *records)), kind="judged"
    )


@pytest.mark.parametrize(
    ("chosen", "rejected", "words"),
    [
        ([], [], "without a prompt or one of the two answers"),
        ("So.", None, "without a prompt or one of the two answers"),
        ("So.", " So. ", "whose two answers are the same"),
        ([{"role": "assistant", "content": ""}], "No.", "without a prompt or one of the two answers"),
    ],
)
def test_preferences_that_say_nothing_are_left_out(write: Write, chosen: Any, rejected: Any, words: str) -> None:
    good = {"prompt": "How?", "chosen": "So.", "rejected": "No."}
    found = loaded(write("a.jsonl", lines(good, {"prompt": "Why?", "chosen": chosen, "rejected": rejected})))
    assert [row.line for row in found.rows] == [1]
    assert words in " ".join(found.notes)


def test_preferences_share_their_turns_up_to_the_first_that_differs(write: Write) -> None:
    more = {"role": "user", "content": "And then?"}
    longer = [ASKED, SAID, more, {"role": "assistant", "content": "Good."}]
    other = [ASKED, {"role": "assistant", "content": "No."}, more, {"role": "assistant", "content": "Bad."}]
    [found] = loaded(write("a.jsonl", lines({"chosen": longer, "rejected": other}))).rows
    assert isinstance(found, rows.Preference)
    assert found.messages == (Message("user", "How?"),)
    assert [turn.content for turn in found.chosen] == ["So.", "And then?", "Good."]
    assert [turn.content for turn in found.rejected] == ["No.", "And then?", "Bad."]


# JSON
@pytest.mark.parametrize("content", ['{"rows": [{"a": 1}], "more": [{"a": 1}]}', '{"rows": []}', '{"rows": ["x"]}'])
def test_json_without_one_list_of_records_says_which_it_has(write: Write, content: str) -> None:
    assert "holds no array" in refusal(write("a.json", content))


def test_lists_beside_the_rows_do_not_hide_them(write: Write) -> None:
    whole = {"version": 2, "tags": ["x"], "empty": [], "items": [{"question": "How?", "answer": "So."}]}
    found = loaded(write("a.json", json.dumps(whole, indent=1)))
    assert (found.rows[0].answer, found.unit) == ("So.", "item")
    assert "the rows are the list 'items'" in found.notes


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("within", [False, True])
def test_an_array_called_json_lines(write: Write, indent: int | None, within: bool) -> None:
    rows = [{"prompt": "How?", "completion": "So."}, 5, {"prompt": "Why?", "completion": "Thus."}]
    whole = {"n": 1, "data": [rows[0], rows[2]]} if within else rows
    path = write("a.jsonl", "\n" + json.dumps(whole, indent=1 if within else indent))
    found = loaded(path, broken="drop")
    assert [(row.question, row.answer) for row in found.rows] == [("How?", "So."), ("Why?", "Thus.")]
    assert found.unit == "item"
    assert "the file is one JSON array, and no JSON Lines" in found.notes


@pytest.mark.parametrize("text", ['[\n {"prompt": "How?",\n', '[{"prompt": "How?"}', '[{"prompt": "How?"},\n{"prompt"'])
def test_an_array_called_json_lines_that_breaks_off(write: Write, text: str) -> None:
    assert refusal(write("a.jsonl", text)).endswith("a.jsonl is not JSON: Input data was truncated")


@pytest.mark.parametrize("first", ["[INFO] reading", '["prompt"]', '[{"prompt": "Who?"', '"prompt"'])
def test_a_first_line_that_is_no_object_leaves_json_lines_what_they_are(write: Write, first: str) -> None:
    path = write("a.jsonl", first + "\n" + lines({"prompt": "How?", "completion": "So."}))
    assert refusal(path).startswith(f"{path} line 1 is not ")
    assert said(path, broken="drop") == [("How?", "So.")]


def test_json_lines_called_json_and_with_odd_line_ends(write: Write) -> None:
    body = '\r\n{"question": "a\\u2028b", "answer": "c\x7fd"}\r\n\r\n{"question": "e", "answer": "f"}\r\n'
    found = loaded(write("a.json", body))
    assert [(row.line, row.question, row.answer) for row in found.rows] == [(2, "a\u2028b", "c\x7fd"), (4, "e", "f")]


# PDF
def test_pages_without_text_are_left_out_and_told_and_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    found = loaded(pdf(tmp_path / "a.pdf", ["Renew books online.", "", "We close at four."]))
    assert [row.line for row in found.rows] == [1, 3]
    assert "1 place without text is left out (page 2)" in found.notes
    assert "has 0 usable rows" in refusal(pdf(tmp_path / "b.pdf", ["", ""]))


# Repetitions
@pytest.mark.parametrize(
    "records",
    [
        [{"prompt": f"What is {number} + 1?", "completion": str(number + 1)} for number in range(12)],
        [{"prompt": chr(0x1F600 + number), "completion": f"face {number}"} for number in range(12)],
        [{"system": f"You are {name}.", "prompt": "Who?", "completion": name} for name in ("Ann", "Bob", "Cy")],
    ],
    ids=["sums", "emoji", "other words of the system"],
)
def test_other_questions_may_have_other_answers(write: Write, records: list[dict[str, str]]) -> None:
    assert loaded(write("a.jsonl", "\n".join(map(json.dumps, records)))).findings == ()


def test_the_same_question_in_other_spellings_has_one_answer_or_a_finding(write: Write) -> None:
    question, answer = PAIRS[0]
    body = f'"{question}","{answer}"\n"{question.upper()}!!","Another answer."\n" {question} ","{answer}"\n'
    found = loaded(write("a.csv", "question,answer\n" + body))
    assert [row.line for row in found.rows] == [2, 3]
    assert {finding.check for finding in found.findings} == {"repeated", "conflict"}
