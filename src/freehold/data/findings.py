"""What is wrong with rows, on which lines, and what was done about it."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

Action = Literal["kept", "cut", "masked", "dropped", "refused"]
"""What became of the rows. Refused: nothing is made of the file until they are mended."""
NAMED = 5
"""Rows that a finding names."""
_MOST = 400
"""Characters of a reason that are kept."""


class Fault(msgspec.Struct, frozen=True):
    """A row that cannot be read: what stands there, as it goes on after its place, and what to do about it."""

    line: int
    reason: str
    remedy: str


class Named(msgspec.Struct, frozen=True):
    """One of the rows that a finding is about; `reason` is empty where the finding says it all."""

    line: int
    reason: str = ""


class Finding(msgspec.Struct, frozen=True):
    """The same thing wrong with some rows."""

    check: str
    """A word for it that does not change: broken, empty, repeated, pii.email."""
    action: Action
    rows: int
    text: str
    """What is wrong and what was done, in words, the number of rows included."""
    named: tuple[Named, ...] = ()
    """The first few."""
    unit: str = "line"
    """What the numbers of `named` count."""

    @property
    def where(self) -> str:
        """The places of the first few."""
        if not self.named:
            return ""
        some = ", ".join(str(each.line) for each in self.named)
        return f"{self.unit} {some}{', …' if self.rows > len(self.named) else ''}"

    def said(self) -> str:
        """The finding as one line of text."""
        reasons = [f"{self.unit} {each.line}: {each.reason}" for each in self.named if each.reason]
        where = "; ".join(reasons) + ("; …" if self.rows > len(reasons) else "") if reasons else self.where
        return f"{self.text} ({where})" if where else self.text


def finding(
    check: str, action: Action, text: str, lines: Sequence[int | tuple[int, str]], unit: str = "line"
) -> Finding:
    """The finding about these rows, given by line or by line and reason.

    `text` goes on after their number, with `{s}` for a noun's plural, `{v}` for a verb's singular, `{are}`, `{have}`.
    """
    pairs = [(each, "") if isinstance(each, int) else each for each in lines[:NAMED]]
    named = tuple(Named(line, reason[:_MOST]) for line, reason in pairs)
    return Finding(check, action, len(lines), f"{len(lines):,} {_inflected(text, len(lines))}", named, unit)


def _inflected(text: str, count: int) -> str:
    one = {"s": "", "v": "s", "are": "is", "have": "has"}
    return text.format_map(one if count == 1 else {"s": "s", "v": "", "are": "are", "have": "have"})


class Log:
    """Findings as they are made, row by row."""

    def __init__(self, unit: str = "line") -> None:
        self._unit = unit
        self._found: dict[tuple[str, Action, str], list[int | tuple[int, str]]] = {}

    def add(self, check: str, action: Action, text: str, line: int, reason: str = "") -> None:
        """One more row with the same thing wrong, said as `finding` says it."""
        self._found.setdefault((check, action, text), []).append((line, reason) if reason else line)

    def empty(self, text: str, line: int) -> None:
        """One more row that says too little to be learned from; `text` says what it lacks."""
        self.add("empty", "dropped", f"{text} {{are}} left out", line)

    def findings(self) -> Iterator[Finding]:
        """One for each thing that is wrong."""
        for (check, action, text), lines in self._found.items():
            yield finding(check, action, text, lines, self._unit)
