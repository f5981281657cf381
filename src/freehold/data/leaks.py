"""Rows to learn from that ask what is held out."""

from collections.abc import Sequence
from typing import NamedTuple

from freehold.data.grouping import THRESHOLDS, similar
from freehold.data.normal import normal, plain
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


class Sought(NamedTuple):
    """The leaks that were found, and whether questions had to be equal in numbers, symbols and the order of words."""

    leaks: list[Leak]
    exact: bool


def sought(
    rows: Sequence[AnyRow], held_out: Sequence[AnyRow], threshold: float = THRESHOLDS[0], *, exact: bool = False
) -> Sought:
    """The rows whose question is held out, as `leaks` finds them, or by the letter if `exact` or else most are leaks.

    Sums and order numbers differ in nothing that is compared otherwise.
    """
    near = [] if exact else leaks(rows, held_out, threshold)
    if not exact and 2 * len(near) <= len(rows):
        return Sought(near, False)
    told = _equal(rows, held_out)
    return Sought(near, False) if 2 * len(told) > len(rows) else Sought(told, True)


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


def _equal(rows: Sequence[AnyRow], held_out: Sequence[AnyRow]) -> list[Leak]:
    """The rows whose question is held out as it stands, but for case, spacing and the marks around words."""
    known = {question: row for row in reversed(held_out) if (question := plain(row.question))}
    asked = ((row, known.get(plain(row.question))) for row in rows)
    return [Leak(row, kept, True) for row, kept in asked if kept is not None]
