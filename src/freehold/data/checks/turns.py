"""Turns in an order in which nobody talks: one speaker twice on end."""

from collections.abc import Iterator
from itertools import pairwise

from freehold.data.checks import Check, Found, Material
from freehold.data.findings import finding
from freehold.data.rows import AnyRow, Conversation, Messages, Preference

_ALTERNATE = ("user", "assistant")


def run(material: Material) -> Found:
    """Rows in which the user or the assistant has two turns on end. Tools may answer several calls."""
    odd = [(row.line, reason) for row in material.rows if (reason := next(_twice(row), ""))]
    text = "row{s} {have} two turns of one role on end, as if one were missing between them"
    return Found((finding("turns.order", "kept", text, odd, material.unit),) if odd else ())


def _twice(row: AnyRow) -> Iterator[str]:
    for messages in _sides(row):
        for number, (one, other) in enumerate(pairwise(messages), 2):
            if one.role == other.role and one.role in _ALTERNATE:
                yield f"turn {number}, {other.role}"


def _sides(row: AnyRow) -> tuple[Messages, ...]:
    if isinstance(row, Preference):
        return (*row.messages, *row.chosen), (*row.messages, *row.rejected)
    return (row.messages,) if isinstance(row, Conversation) else ()


CHECK = Check(65, run)
