"""CSV and its relatives: comma, semicolon, tab or bar between fields, one header line, perhaps Excel's `sep=` first."""

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from freehold.core.errors import BadData
from freehold.core.request import MAX_TEXT
from freehold.data import columns as by_column
from freehold.data.quoting import OpenQuotes
from freehold.data.readers import Reader, Record, Table, parted, titled, unpadded
from freehold.data.text import read_text

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE = 200
_SAID = re.compile(r'"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)
"""A first line for Excel, which says the separator."""


def read(path: Path) -> Table:
    """The records of a delimited file. Raises BadData naming the line."""
    csv.field_size_limit(MAX_TEXT)
    text = read_text(path)
    said = _SAID.match(text)
    delimiter = said[1] if said else sniff(text)
    lines = _fields(path, text, delimiter)
    if said:
        next(lines)
    first = list(islice(lines, by_column.TITLES + 1))
    at = by_column.header([fields for _, fields in first])
    number, header = first[at] if first else (0, [])
    columns = _header(path, header)
    quotes = OpenQuotes(delimiter)
    lines = quotes.watched(chain(first[at + 1 :], lines), len(columns))
    records, faults = parted(lines, lambda fields: _record(columns, fields))
    notes = () if delimiter == "," else (f"fields are separated by {DELIMITERS[delimiter]}",)
    notes = (*notes, *titled(at, number, "line"))
    return Table(records, tuple(dict.fromkeys(columns)), notes, faults, quotes.findings())


def sniff(text: str) -> str:
    """The delimiter that splits most of the first lines into as many fields as the header, and into most fields."""
    likeliest = max(DELIMITERS, key=lambda delimiter: fitness(text, delimiter))
    if fitness(text, likeliest)[0]:
        return likeliest
    return next((delimiter for delimiter in DELIMITERS if _under_title(text, delimiter)), likeliest)


def _under_title(text: str, delimiter: str) -> bool:
    """Whether so separated names stand below a title without a separator."""
    lines = filter(_said, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    try:
        return by_column.header(list(islice(lines, by_column.TITLES + 1))) > 0
    except csv.Error:
        return False


def fitness(text: str, delimiter: str) -> tuple[float, int]:
    """The share of the first lines with as many fields as the header, and how many those are; 0 where that is one."""
    counts: list[int] = []
    try:
        for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if _said(fields):
                counts.append(len(fields))
            if len(counts) == _SAMPLE:
                break
    except csv.Error:
        return 0.0, 0
    if not counts or counts[0] < 2:
        return 0.0, 1
    return counts.count(counts[0]) / len(counts), counts[0]


def _fields(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it starts on; blank lines are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise BadData(
                f"{path} line {start}: {error}", 'Check the quotes there: a quote inside a field is written ""'
            ) from error
        if fields is None:
            return
        if _said(fields):
            yield start, fields


def _said(fields: list[str]) -> bool:
    """Whether a line is more than blanks."""
    return len(fields) > 1 or any(field.strip() for field in fields)


def _header(path: Path, fields: list[str]) -> tuple[str, ...]:
    columns = tuple(field.strip() for field in fields)
    # Spreadsheets are saved with their empty columns: those have no name, and nobody's text.
    doubled = sorted({column for column in columns if column and columns.count(column) > 1})
    if doubled:
        raise BadData(f"{path} has two columns named {doubled[0]!r}", "Give each column a name of its own")
    return columns


def _record(columns: tuple[str, ...], fields: list[str]) -> Record:
    if len(fields) != len(columns):
        remedy = "Put fields that contain the separator or a line break between double quotes"
        if len(columns) == 1:
            remedy = f"If a title stands above the columns' names, delete it. {remedy}"
        raise BadData(f"has {len(fields)} fields where the header has {len(columns)}", remedy)
    return dict(zip(columns, map(unpadded, fields), strict=True))


def _likelihood(head: bytes, suffix: str) -> int:
    return 70 if suffix in (".csv", ".tsv", ".tab", ".psv") else 10


READER = Reader("csv", _likelihood, read)
