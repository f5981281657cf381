"""Workbooks are read by another process, which may not take more than its share, whatever they unpack to."""

import datetime
import zipfile
from pathlib import Path

import pytest

from freehold import data
from freehold.core.errors import BadData, MissingExtra, TooLarge
from freehold.core.request import Message
from freehold.data.readers import spreadsheet
from tests.data.conftest import PAIRS, Write
from tests.data.files import row, workbook

pytest.importorskip("openpyxl")


def _sheet(*rows: tuple[object, ...]) -> str:
    return "".join(row(number, cells) for number, cells in enumerate(rows, 1))


def test_a_sheet_of_questions_and_answers(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"Help desk": _sheet(("question", "answer"), *PAIRS), "Notes": ""})
    found = data.load(path)
    assert [row.messages for row in found.rows] == [(Message("user", q), Message("assistant", a)) for q, a in PAIRS]
    assert [row.line for row in found.rows] == list(range(2, len(PAIRS) + 2))
    assert (found.format, found.unit) == ("xlsx", "row")
    assert "sheet 'Help desk' is read" in found.notes
    assert "sheets not read: 'Notes'" in found.notes


def test_what_openpyxl_itself_writes(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    for cells in [("question", "answer", "day", "n"), ("How?", "So.", datetime.date(2024, 5, 6), 3.0), (None, None)]:
        sheet.append(cells)
    sheet.append(("When?", datetime.datetime(2024, 5, 6, 7, 8), None, True))
    book.save(tmp_path / "a.xlsx")
    rows = data.load(tmp_path / "a.xlsx", minimum=1).rows
    assert [row.answer for row in rows] == ["So.", "2024-05-06 07:08:00"]
    assert [row.line for row in rows] == [2, 4]
    days = data.load(tmp_path / "a.xlsx", minimum=1, columns={"user": "question", "assistant": "day"}).rows
    assert [row.answer for row in days] == ["2024-05-06"]
    numbers = data.load(tmp_path / "a.xlsx", minimum=1, columns={"user": "question", "assistant": "n"}).rows
    assert [row.answer for row in numbers] == ["3", "True"]


def test_an_empty_sheet_before_the_one_with_rows(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"Cover": "", "Rows": _sheet(("question", "answer"), ("How?", "So."))})
    assert data.load(path, minimum=1).rows[0].answer == "So."
    with pytest.raises(BadData, match="has no rows"):
        data.load(workbook(tmp_path / "b.xlsx", {"Cover": ""}))
    path = workbook(tmp_path / "c.xlsx", {"Cover": "", "Rows": _sheet(("question", "answer"))})
    said = "no rows; sheet 'Rows' is read; sheets not read: 'Cover'; columns: question, answer"
    with pytest.raises(BadData, match=said):
        data.load(path, minimum=0)


@pytest.mark.parametrize("name", ["a.csv", "a.xls", "a"])
def test_a_workbook_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = workbook(tmp_path / name, {"S": _sheet(("question", "answer"), ("How?", "So."))})
    found = data.load(path, minimum=1)
    assert (found.format, found.rows[0].answer) == ("xlsx", "So.")


def test_line_ends_of_windows_are_no_text(tmp_path: Path) -> None:
    cells = [("question", "answer"), ("How_x000D_\nnow?_x000d_", "_x005F_x000D_ and _xD83D_ and _x00_")]
    found = data.load(workbook(tmp_path / "a.xlsx", {"S": _sheet(*cells)}), minimum=1).rows[0]
    assert (found.question, found.answer) == ("How\nnow?", "_x000D_ and _xD83D_ and _x00_")


def test_a_cover_of_one_cell_is_not_the_sheet_that_is_read(tmp_path: Path) -> None:
    rows = _sheet(("question", "answer"), *PAIRS)
    found = data.load(workbook(tmp_path / "a.xlsx", {"Cover": _sheet(("Our data",)), "Data": rows}))
    assert len(found.rows) == len(PAIRS)
    assert found.notes[:2] == ("sheet 'Data' is read", "sheets not read: 'Cover'")


@pytest.mark.parametrize(
    "above",
    [
        (("Help desk export", None, None),),
        (("ticket", None, "meta"),),
        (("Help desk export",), ("2024", "May")),
    ],
    ids=["a merged title", "merged groups of columns", "two lines"],
)
def test_a_title_above_the_header_is_no_header(tmp_path: Path, above: tuple[tuple[object, ...], ...]) -> None:
    header = ("Question", "Answer", "when")
    path = workbook(tmp_path / "a.xlsx", {"S": _sheet(*above, header, *((q, a, 1) for q, a in PAIRS))})
    found = data.load(path)
    assert [(row.question, row.answer) for row in found.rows] == PAIRS
    assert found.rows[0].line == len(above) + 2
    assert f"row {len(above) + 1} names the columns: what stands above it is taken for a title" in found.notes


@pytest.mark.parametrize(
    "rows",
    [
        [("question", None), ("answer", "text")],
        [("Frage", "Antwort"), ("text", "answer")],
        [("Frage", None), ("Wann?", "Um 9."), ("Wo?", "Hier.")],
    ],
    ids=["known names", "as many cells", "unknown names"],
)
def test_a_header_is_no_title(tmp_path: Path, rows: list[tuple[object, ...]]) -> None:
    path = workbook(tmp_path / "a.xlsx", {"S": _sheet(*rows)})
    columns = {"user": str(rows[0][0]), "assistant": str(rows[0][1] or "(column B)")}
    assert data.load(path, minimum=1, columns=columns).rows[0].line == 2


def test_columns_that_nobody_knows_are_told_with_their_sheet(tmp_path: Path) -> None:
    rows = _sheet(("Export", None), ("Frage", "Antwort"), ("Wann?", "Um 9."))
    with pytest.raises(BadData, match=r"columns: Export, \(column B\); sheet 'Rows' is read") as caught:
        data.load(workbook(tmp_path / "a.xlsx", {"Rows": rows, "More": ""}))
    assert caught.value.remedy.startswith("If a title stands above the columns' names, delete it. Name them")


def test_cells_beside_the_header_have_a_name(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"S": _sheet(("question", "answer"), ("How?", "So.", None, "x"))})
    found = data.load(path, minimum=1)
    assert "columns not used: (column C), (column D)" in found.notes
    assert spreadsheet._letters(0) == "A"
    assert spreadsheet._letters(27) == "AB"
    assert spreadsheet._letters(702) == "AAA"


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="two columns named 'answer'"):
        data.load(workbook(tmp_path / "a.xlsx", {"S": _sheet(("answer", "answer"), ("x", "y"))}))


def test_a_sheet_that_counts_to_the_end_of_the_world(tmp_path: Path) -> None:
    far = row(1, ("question", "answer")) + row(2, ("How?", "So.")) + '<row r="99999999999"><c r="A3"><v>1</v></c></row>'
    found = data.load(workbook(tmp_path / "a.xlsx", {"S": far}), minimum=1)
    assert len(found.rows) == 1


def test_an_archive_that_unpacks_to_more_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "a.xlsx", {"S": ""}, {"xl/media/image1.png": bytes(3 << 20)})
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(spreadsheet, "MAX_UNPACKED", 1 << 20)
    with pytest.raises(TooLarge, match="unpacks to 3,14"):
        data.load(path)


def test_entities_that_multiply(tmp_path: Path) -> None:
    """As in the "billion laughs" attack: the parser refuses, or its process ends."""
    path = workbook(tmp_path / "a.xlsx", {"S": ""})
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY e0 "ha">{entities}]><worksheet>&e11;</worksheet>'
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**kept, "xl/worksheets/sheet1.xml": bomb.encode()}.items():
            archive.writestr(name, content)
    with pytest.raises(BadData, match="no readable spreadsheet"):
        data.load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04rest", "no readable spreadsheet"),
        (b"\xd0\xcf\x11\xe0" + b"x" * 600, "old or encrypted Office file"),
    ],
)
def test_files_that_are_no_workbook(write: Write, content: bytes, said: str) -> None:
    with pytest.raises(BadData, match=said) as caught:
        data.load(write("a.xlsx", content))
    assert "CSV" in caught.value.remedy


def test_other_archives_and_broken_workbooks(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    with pytest.raises(BadData, match="no Excel workbook"):
        data.load(tmp_path / "a.docx")
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    with pytest.raises(BadData, match="no readable spreadsheet") as caught:
        data.load(tmp_path / "b.xlsx")
    assert "\n" not in caught.value.line()


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "a.xlsx", {"S": _sheet(("question", "answer"), ("How?", "So."))})
    monkeypatch.setattr("freehold.data.foreign.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="openpyxl reads it") as caught:
        data.load(path)
    assert "pip install 'freehold[data]'" in caught.value.remedy
