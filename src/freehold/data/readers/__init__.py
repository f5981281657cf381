"""Readers of data files: one module per format, registered by being here.

Each module has `READER`. A reader says how sure it is that a file is its own, and turns one into records: dictionaries
with the line they came from.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

Record = dict[str, Any]


class Table(msgspec.Struct, frozen=True):
    """What a reader found: records in file order, each with its line (or number, where a file has no lines)."""

    records: tuple[tuple[int, Record], ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


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


def columns_of(records: Iterator[Record]) -> tuple[str, ...]:
    """Every key that occurs, in order of first occurrence."""
    return tuple(dict.fromkeys(key for record in records for key in record))
