"""Rows to learn from that ask what is held out."""

from collections.abc import Sequence
from typing import NamedTuple

from freehold.data.grouping import THRESHOLDS, similar
from freehold.data.normal import normal
from freehold.data.rows import AnyRow

MOST = 200_000
"""Rows of both sides up to which near-duplicates are looked for; beyond them it takes minutes."""


class Leak(NamedTuple):
    """A row to learn from, and the row held out that asks the same or nearly the same."""

    row: AnyRow
    held_out: AnyRow
    exact: bool

    @property
    def said(self) -> str:
        """The same, in words."""
        return f"{'the question' if self.exact else 'nearly the question'} of held-out row {self.held_out.line}"


def leaks(rows: Sequence[AnyRow], held_out: Sequence[AnyRow], threshold: float = THRESHOLDS[0]) -> list[Leak]:
    """The rows whose question is held out: equal but for case, spacing and numbers, or as similar as `threshold`."""
    asked = [normal(row.question) for row in rows]
    kept = [normal(row.question) for row in held_out]
    known = {question: row for question, row in zip(reversed(kept), reversed(held_out), strict=True) if question}
    near = similar(asked, kept, threshold if len(rows) + len(held_out) <= MOST else 1.0)
    found = []
    for index, (row, question) in enumerate(zip(rows, asked, strict=True)):
        if question in known:
            found.append(Leak(row, known[question], True))
        elif index in near:
            found.append(Leak(row, held_out[near[index]], False))
    return found
