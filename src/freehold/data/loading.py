"""load: a data file to a Dataset, told what was assumed, what is wrong on which line, and what was done about it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadData
from freehold.core.request import Message
from freehold.data import pii as personal
from freehold.data.findings import Fault, Finding, Log, finding
from freehold.data.normal import plain
from freehold.data.readers import Reader, Record, Table, readers
from freehold.data.rows import AnyRow, Conversation, Dataset, Row, digest_rows, told
from freehold.data.shapes import Plan, choose
from freehold.data.text import beginning, read_bytes

MIN_ROWS = 10
"""Fewer cannot be split into a part to learn from and a part that tells anything."""
Broken = Literal["stop", "drop", "list"]
"""What to do about rows that cannot be read: refuse the file, do without them, or only list them."""
Pii = Literal["keep", "drop", "mask"]
_HEAD = 4096
_MARK = "synthetic"


def load(
    path: Path,
    *,
    columns: Mapping[str, str] = {},
    format: str = "auto",
    kind: str = "auto",
    system: str = "",
    minimum: int = MIN_ROWS,
    repetitions: bool = False,
    broken: Broken = "stop",
    pii: Pii = "keep",
) -> Dataset:
    """The rows of a data file. `columns` maps roles to columns; `system` opens conversations that have no system turn.

    Exact repetitions are left out unless `repetitions`; what was assumed is in the notes, what is wrong in the
    findings. Raises BadData naming the line where the file is wrong, MissingExtra, TooLarge.
    """
    reader = _reader(path, format)
    table = reader.read(path)
    if not table.records:
        raise _first(path, table.unit, table.faults) if table.faults else _empty(path, table, minimum)
    try:
        shape, plan = choose(table, columns, kind)
    except BadData as error:
        raise BadData(f"{path}: {error.message}", error.remedy) from error
    log = Log(table.unit)
    rows, faults = _made(table, plan, log)
    found = [*_broken(path, table.unit, faults, broken), *table.findings, *log.findings()]
    rows = [_opened(row, system) for row in rows]
    rows, more = _personal(rows, pii, table.unit)
    rows, repeated = _distinct(rows, repetitions, table.unit)
    found += [*more, *repeated]
    if len(rows) < minimum:
        raise BadData(
            f"{path} has {len(rows)} usable {'row' if len(rows) == 1 else 'rows'}",
            f"Give at least {minimum}: some are held out to measure the result",
        )
    return Dataset(
        rows=tuple(rows),
        format=reader.name,
        columns=plan.columns,
        digest=digest_rows(rows),
        kind=shape.kind,
        records=len(table.records) + len(table.faults),
        unit=table.unit,
        assumed=(*table.notes, *_assumed(table, plan)),
        findings=tuple(found),
    )


def _reader(path: Path, format: str) -> Reader:
    known = readers()
    if format != "auto":
        if format not in known:
            raise BadData(f"unknown format {format!r}", f"Known: auto, {', '.join(known)}")
        return known[format]
    head = beginning(read_bytes(path)[:_HEAD])
    return max(known.values(), key=lambda reader: reader.likelihood(head, path.suffix.lower()))


def _empty(path: Path, table: Table, minimum: int) -> BadData:
    least = minimum or MIN_ROWS  # it may be asked only what is wrong
    message = "; ".join([f"{path} has no rows", *table.notes])
    if table.columns:
        message += f"; columns: {', '.join(table.columns)}"
    return BadData(message, f"Give at least {least} {'row' if least == 1 else 'rows'}")


def _made(table: Table, plan: Plan, log: Log) -> tuple[list[AnyRow], list[Fault]]:
    """The rows, and the records that cannot become one, those that could not be read among them."""
    rows: list[AnyRow] = []
    faults = list(table.faults)
    columns = tuple(filter(None, (*plan.columns.values(), *plan.used)))
    for line, record in table.records:
        try:
            _known(record, columns)
            made = plan.make(record, line, log)
        except BadData as error:
            faults.append(Fault(line, error.message, error.remedy))
            continue
        if made is not None:
            rows += [_marked(row, record) for row in (made if isinstance(made, tuple) else (made,))]
    return rows, sorted(faults, key=lambda fault: fault.line)


def _known(record: Record, columns: Sequence[str]) -> None:
    """Raises BadData for a record that has none of these columns and has others."""
    if record and columns and not any(column in record for column in columns):
        has = ", ".join(repr(str(name)[:40]) for name in list(record)[:5])
        raise BadData(f"has no column {columns[0]!r}, as other rows have, but {has}", "Give all rows the same columns")


def _marked(row: AnyRow, record: Record) -> AnyRow:
    """With the name of the model that wrote it, where the record says that one did."""
    mark = record.get(_MARK)
    if not mark or str(mark).lower() == "false":
        return row
    return msgspec.structs.replace(row, synthetic="a model" if mark is True else str(mark)[:200])


def _broken(path: Path, unit: str, faults: Sequence[Fault], broken: Broken) -> list[Finding]:
    """What is said of records that cannot be used. Raises BadData for them unless they are to be dropped or listed."""
    if not faults:
        return []
    if broken not in get_args(Broken):
        raise BadData(f"broken rows: unknown way {broken!r}", f"Known: {', '.join(get_args(Broken))}")
    if broken == "stop":
        raise _first(path, unit, faults)
    lines = [(fault.line, fault.reason) for fault in faults]
    if broken == "drop":
        return [finding("broken", "dropped", "broken row{s} {are} left out", lines, unit)]
    return [
        finding(
            "broken",
            "refused",
            "broken row{s}: nothing is made of the file unless broken rows are mended or dropped",
            lines,
            unit,
        )
    ]


def _first(path: Path, unit: str, faults: Sequence[Fault]) -> BadData:
    """The error about the first of them, and how many more there are."""
    first, *others = faults
    message = f"{path} {unit} {first.line} {first.reason}"
    if not others:
        return BadData(message, first.remedy)
    some = ", ".join(str(fault.line) for fault in others[:5]) + (", …" if len(others) > 5 else "")
    more = f"{len(others):,} more {'is' if len(others) == 1 else 'are'} wrong ({some})"
    return BadData(f"{message}; {more}", f"{first.remedy}. 'freehold data check' lists them")


def _assumed(table: Table, plan: Plan) -> list[str]:
    notes = [f"{role} text is in column {column!r}" for role, column in plan.columns.items()]
    used = {*plan.columns.values(), *plan.used, _MARK}
    ignored = [column for column in table.columns if column not in used]
    if ignored:
        notes.append(f"columns not used: {', '.join(column or '(without a name)' for column in ignored)}")
    return [*plan.notes, *notes]


def _opened(row: AnyRow, system: str) -> AnyRow:
    if not system or not isinstance(row, Conversation) or row.messages[0].role == "system":
        return row
    weights = getattr(row, "weights", ())
    more = {"weights": (1.0, *weights)} if weights else {}
    return msgspec.structs.replace(row, messages=(Message("system", system), *row.messages), **more)


def _personal(rows: list[AnyRow], pii: Pii, unit: str) -> tuple[list[AnyRow], list[Finding]]:
    """The rows as the policy on personal data leaves them."""
    if pii not in get_args(Pii):
        raise BadData(f"pii: unknown way {pii!r}", f"Known: {', '.join(get_args(Pii))}")
    if pii == "keep":
        return rows, []
    return personal.dropped(rows, unit) if pii == "drop" else personal.masked(rows, unit)


def _distinct(rows: list[AnyRow], repetitions: bool, unit: str) -> tuple[list[AnyRow], list[Finding]]:
    """The rows, without exact repetitions unless wanted; findings on those and on questions with several answers."""
    first: dict[str, AnyRow] = {}
    again: list[int] = []
    answers: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    for row in rows:
        if first.setdefault(Digest.of_bytes(row.encode()).hex, row) is not row:
            again.append(row.line)
        answers[_asked(row)].setdefault(row.answer, row.line)
    found = []
    if again and not repetitions:
        found.append(finding("repeated", "dropped", "exact repetition{s} {are} left out", again, unit))
    conflicts = [max(lines.values()) for lines in answers.values() if len(lines) > 1]
    if conflicts and rows[0].kind in ("chat", "labelled"):
        text = "question{s} {have} more than one answer: the model can match only one of them"
        found.append(finding("conflict", "kept", text, conflicts, unit))
    return rows if repetitions else list(first.values()), found


def _asked(row: AnyRow) -> tuple[str, ...]:
    """All that comes before a row's answer: other words of the system, or earlier turns, ask something else."""
    if isinstance(row, Row):
        return tuple(f"{message.role}: {plain(told(message))}" for message in row.messages[:-1])
    return (plain(row.question),)
