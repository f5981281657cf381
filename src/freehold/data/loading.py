"""load: a data file to a Dataset, told what was assumed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from freehold.core.errors import BadData
from freehold.core.request import MAX_MESSAGES, MAX_TEXT, Message
from freehold.data import columns as by_column
from freehold.data import conversations
from freehold.data.normal import normal
from freehold.data.readers import Reader, Table, readers
from freehold.data.rows import Dataset, Row, digest_rows
from freehold.data.text import read_bytes

MIN_ROWS = 10
"""Fewer cannot be split into a part to learn from and a part that tells anything."""
_HEAD = 4096


def load(
    path: Path,
    *,
    columns: Mapping[str, str] = {},
    format: str = "auto",
    system: str = "",
    minimum: int = MIN_ROWS,
    repetitions: bool = False,
) -> Dataset:
    """The conversations in a data file. `columns` maps roles to columns; `system` opens rows that have no system turn.

    Exact repetitions are left out unless `repetitions`; what was assumed and left out is in the notes.

    Raises BadData naming the line where the file is wrong, MissingExtra for Parquet without pyarrow.
    """
    reader = _reader(path, format)
    table = reader.read(path)
    if not table.records:
        raise BadData(f"{path} has no rows", f"Give at least {minimum} rows")
    parsed = _conversations(path, table) if conversations.key_of(table.columns) and not columns else None
    rows, found, notes = parsed or _columns(table, columns)
    rows, more = _distinct([_opened(row, system) for row in rows], repetitions)
    if len(rows) < minimum:
        raise BadData(
            f"{path} has {len(rows)} usable {'row' if len(rows) == 1 else 'rows'}",
            f"Give at least {minimum}: some are held out to measure the result",
        )
    return Dataset(tuple(rows), reader.name, found, digest_rows(rows), (*table.notes, *notes, *more))


def _reader(path: Path, format: str) -> Reader:
    known = readers()
    if format != "auto":
        if format not in known:
            raise BadData(f"unknown format {format!r}", f"Known: auto, {', '.join(known)}")
        return known[format]
    head = read_bytes(path)[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    return max(known.values(), key=lambda reader: reader.likelihood(head, path.suffix.lower()))


_Parsed = tuple[list[Row], dict[str, str], list[str]]


def _conversations(path: Path, table: Table) -> _Parsed:
    key = conversations.key_of(table.columns) or ""
    rows: list[Row] = []
    silent: list[int] = []
    unweighted = 0
    for line, record in table.records:
        found = conversations.messages(record.get(key), f"{path} line {line}")
        unweighted += conversations.weighted(record.get(key))
        if found is None:
            silent.append(line)
        else:
            rows.append(_checked(Row(found, line)))
    notes = [f"each row is a conversation ({key!r})", *_left_out(silent)]
    if unweighted:
        notes.append(
            f"{unweighted} conversations have turns with weight 0; weights are not used, these are learned too"
        )
    return rows, {}, notes


def _columns(table: Table, named: Mapping[str, str]) -> _Parsed:
    found = by_column.find(table.columns, named)
    rows: list[Row] = []
    empty: list[int] = []
    for line, record in table.records:
        messages = by_column.messages(record, found)
        if messages is None:
            empty.append(line)
        else:
            rows.append(_checked(Row(messages, line)))
    notes = [f"{role} text is in column {column!r}" for role, column in found.items()]
    ignored = [column for column in table.columns if column not in found.values()]
    if ignored:
        notes.append(f"columns not used: {', '.join(column or '(without a name)' for column in ignored)}")
    return rows, found, [*notes, *_left_out(empty)]


def _left_out(lines: list[int]) -> Iterator[str]:
    if lines:
        some = ", ".join(str(line) for line in lines[:5]) + (", …" if len(lines) > 5 else "")
        yield f"{len(lines)} rows without question or answer are left out (line {some})"


def _checked(row: Row) -> Row:
    if len(row.messages) > MAX_MESSAGES or any(len(message.content) > MAX_TEXT for message in row.messages):
        raise BadData(f"line {row.line} is too long", f"At most {MAX_MESSAGES} turns of {MAX_TEXT:,} characters")
    return row


def _opened(row: Row, system: str) -> Row:
    if not system or row.messages[0].role == "system":
        return row
    return msgspec.structs.replace(row, messages=(Message("system", system), *row.messages))


def _distinct(rows: list[Row], repetitions: bool) -> tuple[list[Row], list[str]]:
    """The rows, without exact repetitions unless wanted, and notes on those and on questions with several answers."""
    first: dict[tuple[Message, ...], Row] = {}
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        first.setdefault(row.messages, row)
        answers[normal(row.question)].add(row.answer)
    notes = []
    if len(first) < len(rows) and not repetitions:
        notes.append(f"{len(rows) - len(first)} exact repetitions are left out")
    conflicts = sum(len(found) > 1 for found in answers.values())
    if conflicts:
        notes.append(f"{conflicts} questions have more than one answer: the model can match only one of them")
    return rows if repetitions else list(first.values()), notes
