"""Excel workbooks, through openpyxl in a process of its own: the first sheet that has rows below a header."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freehold.core.errors import BadData, TooLarge
from freehold.data import columns as by_column
from freehold.data.foreign import unreadable, values
from freehold.data.readers import Reader, Record, Table, titled, unpadded
from freehold.data.text import read_bytes

MAX_UNPACKED = 1 << 30
"""Bytes: a small archive can unpack to very many."""
_OLD = b"\xd0\xcf\x11\xe0"
_WHAT = "spreadsheet"


def read(path: Path) -> Table:
    """The records of a sheet, each with the number of its row. Raises BadData, MissingExtra, TooLarge."""
    _check(path)
    said = values("xlsx", path, _WHAT, "openpyxl")
    if not said:
        raise BadData(f"{path} has no rows", "Give a sheet with a header and rows")
    about, *rows = said
    at = by_column.header([cells for _, cells in rows[: by_column.TITLES + 1]])
    (first, header), *rows = rows[at:]
    columns = _header(path, header, max((len(cells) for _, cells in rows), default=0))
    notes = [f"sheet {about['sheet']!r} is read"]
    if about["others"]:
        notes.append(f"sheets not read: {', '.join(map(repr, about['others']))}")
    notes += titled(at, first, "row")
    records = tuple((number, _record(columns, cells)) for number, cells in rows)
    return Table(records, columns, tuple(notes), unit="row")


def _check(path: Path) -> None:
    """Before anything of it is unpacked."""
    if read_bytes(path).startswith(_OLD):
        raise BadData(f"{path} is an old or encrypted Office file", "Save it as .xlsx without a password, or as CSV")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise unreadable(path, _WHAT, str(error)) from error
    if not any(member.filename.startswith("xl/") for member in members):
        raise BadData(f"{path} is a zip archive and no Excel workbook", "Save it as .xlsx or CSV (UTF-8)")
    size = sum(member.file_size for member in members)
    if size > MAX_UNPACKED:
        raise TooLarge(f"{path} unpacks to {size:,} bytes", f"Split it: at most {MAX_UNPACKED:,} bytes are read")


def _header(path: Path, cells: Sequence[Any], width: int) -> tuple[str, ...]:
    """The columns' names; those without one are called by their letter."""
    given = [*("" if cell is None else str(cell).strip() for cell in cells), *[""] * (width - len(cells))]
    columns = tuple(name or f"(column {_letters(index)})" for index, name in enumerate(given))
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    if doubled:
        raise BadData(f"{path} has two columns named {doubled[0]!r}", "Give each column a name of its own")
    return columns


def _letters(index: int) -> str:
    """A, B, … Z, AA, as spreadsheets count."""
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(65 + index % 26)


def _record(columns: Sequence[str], cells: Sequence[Any]) -> Record:
    held = [unpadded(cell) if isinstance(cell, str) else cell for cell in cells]
    return dict(zip(columns, [*held, *[None] * (len(columns) - len(held))], strict=True))


def _likelihood(head: bytes, suffix: str) -> int:
    return 100 if head.startswith((b"PK\x03\x04", _OLD)) or suffix in (".xlsx", ".xlsm") else 0


READER = Reader("xlsx", _likelihood, read)
