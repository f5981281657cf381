"""Shapes of data: how records become rows of a kind. One module each, registered by being here.

Each module has `SHAPE`. A shape says how sure it is that records are of its form, from their columns, the first of
them and the columns that the user named, and plans how a record becomes a row.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from freehold.core.errors import BadData
from freehold.core.request import Message, Tool
from freehold.data import columns as by_column
from freehold.data import conversations
from freehold.data.findings import Log
from freehold.data.readers import Record, Table
from freehold.data.rows import KINDS, AnyRow

_LOOKED_AT = 50
"""Records from which a shape is told."""


class Look(NamedTuple):
    """What a shape is told by."""

    columns: tuple[str, ...]
    sample: tuple[Record, ...]
    named: Mapping[str, str]
    kind: str = "auto"
    """What the user wants to learn from."""
    counts: Mapping[str, int] = {}
    """How many records have something in a column."""

    def column(self, role: str, *names: str) -> str | None:
        """The column that the user named for a role, or else the first with one of these names."""
        return self.named.get(role) or by_column.first(self.columns, names, self.counts)

    def guess(self) -> dict[str, str]:
        """Role to column, as `columns.guess` knows them."""
        return by_column.guess(self.columns, self.named, self.counts)

    @property
    def turns(self) -> str:
        """The column that holds conversations; empty without one."""
        return next((key for key in conversations.KEYS if key in self.columns), "")

    def values(self, column: str | None) -> list[Any]:
        """What the first records have in a column, where they have anything."""
        found = [record.get(column) for record in self.sample if column is not None]
        return [value for value in found if value is not None and value != ""]

    def lists(self, column: str | None) -> bool:
        """Whether a column holds lists, as turns are."""
        found = self.values(column)
        return bool(found) and all(conversations.is_list(value) for value in found)


Make = Callable[[Record, int, Log], AnyRow | tuple[AnyRow, ...] | None]
"""A record and its line to a row or several; None, the reason in the log, where there is nothing to learn from it.

Raises BadData whose message goes on after the place of the row.
"""


class Plan(NamedTuple):
    """How the records of one file become rows."""

    make: Make
    columns: dict[str, str] = {}  # noqa: RUF012  a field of a named tuple
    """Role to column, where that was guessed or named."""
    used: tuple[str | None, ...] = ()
    """Columns that are read beside those."""
    notes: tuple[str, ...] = ()


class Shape(NamedTuple):
    """One form. `likelihood` is 0 for records that cannot be of it."""

    name: str
    kind: str
    likelihood: Callable[[Look], int]
    plan: Callable[[Look], Plan]


@cache
def shapes() -> tuple[Shape, ...]:
    """All shapes."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return tuple(module.SHAPE for module in modules)


def choose(table: Table, named: Mapping[str, str], kind: str) -> tuple[Shape, Plan]:
    """The likeliest shape for rows of `kind`, "auto" being any, and its plan. Raises BadData."""
    if kind != "auto" and kind not in KINDS:
        raise BadData(f"unknown kind {kind!r} of rows", f"Known: auto, {', '.join(KINDS)}")
    by_column.check_named(table.columns, named)
    counts = Counter(column for _, record in table.records for column, value in record.items() if value is not None)
    look = Look(table.columns, tuple(record for _, record in table.records[:_LOOKED_AT]), named, kind, counts)
    fitting = [(shape.likelihood(look), shape) for shape in shapes() if kind in ("auto", shape.kind)]
    sure, shape = max(fitting, key=lambda each: each[0])
    if not sure and kind == "auto":
        by_column.find(table.columns, named, notes=table.notes)  # its error lists the columns
    if not sure:
        raise BadData(
            f"its records are no {kind} rows; columns: {', '.join(table.columns)}",
            "See docs/data.md for the forms that are known, or name the columns: [data] columns = {…}",
        )
    return shape, shape.plan(look)


NO_ANSWER = "row{s} without question or answer"
SILENT = "row{s} {have} an answer that says nothing amid the conversation: it is not learned"


def tools_of(record: Record) -> tuple[Tool, ...]:
    """The tools that a record lists beside its turns. Raises BadData."""
    return next((conversations.tools(record[key]) for key in conversations.TOOLS if record.get(key)), ())


def headed(messages: tuple[Message, ...], record: Record, look: Look) -> tuple[Message, ...]:
    """The turns after the system message that stands in a column of its own, where they bring none."""
    system = by_column.text(record, look.column("system", *by_column.NAMES["system"]))
    if not system or not messages or messages[0].role == "system":
        return messages
    return (Message("system", system), *messages)


def waiting(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Turns that wait for the assistant. Raises BadData for others."""
    conversations.check_order(messages)
    if messages[-1].role == "assistant":
        raise BadData("has a prompt that ends with the assistant", "End it with the user's turn")
    return messages
