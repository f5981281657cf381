"""What verbs print: plain lines, tables, JSON and progress. Control characters never reach the terminal."""

import json
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.name import Name

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNESCAPED = re.compile(r"[\x7f-\x9f]")
_SCALARS = {str, int, float, bool, type(None)}


def printable(text: str) -> str:
    """`text` without control characters other than newline and tab, so that no model or file can drive a terminal."""
    return text if text.isprintable() else _CONTROLS.sub("", text)


def write(text: str) -> None:
    """Print a piece of text as it comes, without a newline."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def flush() -> None:
    """Let whoever reads stdout have it now."""
    sys.stdout.flush()


def line(text: str = "") -> None:
    """Print a line on stdout."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str, *, quiet: bool = False) -> None:
    """Print a line for people on stderr, unless they asked for quiet."""
    if not quiet:
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


def emit(value: Any) -> None:
    """Print a value as indented JSON. Digests and names are shown as their text."""
    text = _as_json(_plain(value))
    if "\x7f" in text or not text.isascii():  # JSON escapes only part of the control characters: not these
        text = _UNESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    sys.stdout.write(text + "\n")


def _as_json(value: Any) -> str:
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except UnicodeEncodeError:  # the name of a file that is no text, which Python's own JSON spells and reads again
        return json.dumps(msgspec.to_builtins(value), indent=2)


def _plain(value: Any) -> Any:
    if type(value) in _SCALARS or (type(value) is dict and _SCALARS.issuperset(map(type, value.values()))):
        return value  # as most are: a list of 10,000 models is 10,000 such dictionaries
    if isinstance(value, Digest | Name | Path):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return {field: _plain(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, two spaces apart, under a header."""
    columns = [_cells(column) for column in zip(head, *rows, strict=True)]
    # One format for whole lines takes a third of the time that padding each cell does.
    form = "  ".join(f"%-{max(map(len, column))}s" for column in columns)
    sys.stdout.write("".join(f"{(form % row).rstrip()}\n" for row in zip(*columns, strict=True)))


def _cells(column: Sequence[str]) -> Sequence[str]:
    """A column's texts as they can be printed, each on one line."""
    if "".join(column).isprintable():
        return column
    return [printable(cell).replace("\n", " ") for cell in column]


def pairs(rows: Sequence[tuple[str, str]], *, indent: int = 2) -> None:
    """Print names and values in two columns; empty values are left out."""
    shown = [(name, printable(value)) for name, value in rows if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        line(f"{' ' * indent}{name.ljust(width)}  {value}")


def size(count: int) -> str:
    """Bytes for people, in powers of 1000 as file managers and registries show them."""
    if count < 1000:
        return f"{count} B"
    value, unit = float(count), "B"
    for unit in ("kB", "MB", "GB", "TB"):  # noqa: B007
        value /= 1000
        if value < 999.5:
            break
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def count(number: int) -> str:
    """A number of parameters for people: 11.2M, 7.6B."""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= 0.99995 * limit:  # what would be written as 1000.0 of the smaller unit
            return f"{number / limit:.1f}{unit}"
    return str(number) if number else ""


def ago(seconds: float) -> str:
    """How long ago, for people."""
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


class Bar:
    """Progress of bytes, or of `units`, on stderr: one moving line in a terminal, a line each tenth otherwise."""

    def __init__(self, label: str, *, quiet: bool = False, units: str = "") -> None:
        self._label = label
        self._quiet = quiet
        self._units = units
        self._first: int | None = None
        self._live = sys.stderr.isatty()
        self._begin = time.monotonic()
        self._last = -1
        self._drawn = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` is done."""
        self._first = done if self._first is None else self._first
        tenth = 10 * done // total if total else 10
        now = time.monotonic()
        ended = done >= total
        if self._quiet or (not ended and (now - self._drawn < 0.1 if self._live else tenth == self._last)):
            return
        if ended and self._last == 11:
            return
        self._last, self._drawn = (11 if ended else tenth), now
        self._draw(done, total, now - self._begin, ended)

    def _draw(self, done: int, total: int, seconds: float, ended: bool) -> None:
        rate = (done - (self._first or 0)) / seconds if seconds > 0.05 else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate and not ended else ""
        if self._units:
            text = f"{self._label}: {done} of {total} {self._units}{left}"
        else:
            speed = f" {size(int(rate))}/s{left}" if rate else ""
            text = f"{self._label}: {100 * done // total if total else 100} % of {size(total)}{speed}"
        if self._live:
            shown = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps is not drawn over
            sys.stderr.write(f"\r\x1b[K{shown}" + ("\n" if ended else ""))
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
