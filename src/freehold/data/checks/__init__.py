"""Checks of rows: one module each, registered by being here.

Each module has `CHECK`, a function of the material that is checked. What it finds wrong are findings; what it counts
are facts and tables. No check changes a row, and none tells a text of the data.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from freehold.data.findings import Finding
from freehold.data.grouping import THRESHOLDS
from freehold.data.rows import AnyRow

Value = str | int | float | bool
Table = tuple[tuple[str, int], ...]


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked."""

    rows: tuple[AnyRow, ...]
    """To learn from."""
    held_out: tuple[AnyRow, ...] = ()
    unit: str = "line"
    lengths: tuple[int, ...] = ()
    """Tokens of each row, where a base tells them; 0 for a row that was not measured."""
    similarity: float = THRESHOLDS[0]
    """From which two questions count as near-duplicates."""
    exact: bool = False
    """Whether numbers, symbols and the order of words tell questions apart."""
    max_length: int = 0
    """Tokens that are learned of a row; 0 where that is not known."""

    @property
    def kind(self) -> str:
        """Of the rows."""
        return self.rows[0].kind if self.rows else ""


class Found(msgspec.Struct, frozen=True):
    """What a check came to. Facts by a dotted name; tables of counts by what they count."""

    findings: tuple[Finding, ...] = ()
    facts: dict[str, Value] = {}
    tables: dict[str, Table] = {}


class Check(msgspec.Struct, frozen=True):
    """One check; the lowest `order` is told first."""

    order: int
    run: Callable[[Material], Found]


@cache
def checks() -> tuple[Check, ...]:
    """All checks, in order."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return tuple(sorted((module.CHECK for module in modules), key=lambda check: check.order))


def examine(material: Material, known: Sequence[Finding] = ()) -> Found:
    """What all checks find together, after what was found when the rows were read."""
    found = [check.run(material) for check in checks()] if material.rows else []
    facts: dict[str, Value] = {}
    tables: dict[str, Table] = {}
    for each in found:
        facts |= each.facts
        tables |= each.tables
    return Found((*known, *(finding for each in found for finding in each.findings)), facts, tables)
