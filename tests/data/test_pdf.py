"""The text of PDFs, page by page; what is none, or takes more than its share, is refused in one line."""

from pathlib import Path

import pytest

from freehold import data
from freehold.core.errors import BadData, MissingExtra, TooLarge
from freehold.data import foreign
from tests.data.conftest import Write
from tests.data.files import pdf

pytest.importorskip("pypdf")


def test_pages(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", ["The library opens\nat nine (sharp).", "", "It is exam-\nple two."])
    found = data.load(path, minimum=1)
    assert [(row.line, row.text) for row in found.rows] == [
        (1, "The library opens\nat nine (sharp)."),
        (3, "It is example two."),
    ]
    assert (found.format, found.kind, found.unit, found.records) == ("pdf", "text", "page", 3)
    assert "the text of 3 pages is read" in found.notes
    assert "1 place without text is left out (page 2)" in found.notes


def test_a_pdf_under_another_name(tmp_path: Path) -> None:
    assert data.load(pdf(tmp_path / "a.txt", ["Here."]), minimum=1).format == "pdf"


def test_an_encrypted_one_says_so(tmp_path: Path) -> None:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(PdfReader(pdf(tmp_path / "a.pdf", ["Secret."])))
    writer.encrypt("key", algorithm="RC4-128")
    writer.write(tmp_path / "b.pdf")
    with pytest.raises(BadData, match="remove its password first"):
        data.load(tmp_path / "b.pdf")


@pytest.mark.parametrize(
    "content", [b"%PDF-1.7\n", b"%PDF-1.4\nxref\n0 1\ntrailer << /Root 9 0 R >>\nstartxref\n9\n%%EOF"]
)
def test_what_is_none(write: Write, content: bytes) -> None:
    with pytest.raises(BadData, match=r"no readable PDF|has no rows") as caught:
        data.load(write("a.pdf", content))
    assert "\n" not in caught.value.line()


def test_more_text_than_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MAX_OUTPUT", 50)
    with pytest.raises(TooLarge, match="more than 50 bytes"):
        data.load(pdf(tmp_path / "a.pdf", ["word " * 100]))


def test_a_reader_that_is_stopped_is_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "deadly.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(foreign, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(BadData, match="too much memory or time"):
        foreign.values("deadly", tmp_path / "a.pdf", "PDF", "pypdf")
    script.write_text("print('no json')\n")
    with pytest.raises(BadData, match="no readable PDF"):
        foreign.values("deadly", tmp_path / "a.pdf", "PDF", "pypdf")


def test_without_pypdf_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pypdf reads it"):
        data.load(pdf(tmp_path / "a.pdf", ["Here."]))
