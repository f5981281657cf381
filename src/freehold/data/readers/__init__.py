"""Readers of data files: one module per format, registered by being here.

Each module has `READER`. A reader says how sure it is that a file is its own, and turns one into records: dictionaries
with the line they came from. A line that cannot be read is a fault beside them; a file that cannot be is BadData.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadData
from freehold.data.findings import Fault, Finding

Record = dict[str, Any]


class Table(msgspec.Struct, frozen=True):
    """What a reader found: records in file order, each with its line, or its number where a file has no lines."""

    records: tuple[tuple[int, Record], ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    findings: tuple[Finding, ...] = ()
    unit: str = "line"
    """What the numbers count: line, item, row, page."""


class Reader(msgspec.Struct, frozen=True):
    """One format. `likelihood` takes the first bytes and the lower-case suffix; 0 means not mine."""

    name: str
    likelihood: Callable[[bytes, str], int]
    read: Callable[[Path], Table]


@cache
def readers() -> dict[str, Reader]:
    """All formats by name."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return {module.READER.name: module.READER for module in modules}


def columns_of(records: Iterable[tuple[int, Record]]) -> tuple[str, ...]:
    """Every key that occurs, in order of first occurrence."""
    return tuple(dict.fromkeys(key for _, record in records for key in record))


def parted(
    numbered: Iterable[tuple[int, Any]], parse: Callable[[Any], Record]
) -> tuple[tuple[tuple[int, Record], ...], tuple[Fault, ...]]:
    """The records that `parse` makes, and the faults where it raises BadData."""
    records: list[tuple[int, Record]] = []
    faults: list[Fault] = []
    for line, given in numbered:
        try:
            records.append((line, parse(given)))
        except BadData as error:
            faults.append(Fault(line, error.message, error.remedy))
    return tuple(records), tuple(faults)


def titled(at: int, number: int, unit: str) -> tuple[str, ...]:
    """What is said of a header that is not the first row of its file."""
    return (f"{unit} {number} names the columns: what stands above it is taken for a title",) if at else ()


def unpadded(cell: str) -> str:
    """What a cell of a table holds. Blanks around one line align columns, those before the first of several indent."""
    return cell if "\n" in cell.strip() else cell.strip()


def counted(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, blank ones passed over."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())
