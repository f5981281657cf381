"""What 'data' shows: findings, counts and histograms, and rows with the tokens that count marked."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.cli._output import line, pairs, printable

if TYPE_CHECKING:
    from freehold.data.checks import Found
    from freehold.data.rows import Dataset
    from freehold.recipes.reading import Reader, Reading

_BAR = 30
_MARKS = {"learned": ("⟦", "⟧"), "cut": ("⟪", "⟫"), "context": ("", "")}
_COLOURS = {"learned": ("\x1b[1;32m", "\x1b[0m"), "cut": ("\x1b[31;9m", "\x1b[0m"), "context": ("\x1b[2m", "\x1b[0m")}
_LEGEND = {"learned": "counts in the loss", "context": "is read", "cut": "is cut off"}
_ORDER = ("refused", "dropped", "cut", "masked", "kept")


def described(path: Path, dataset: "Dataset", found: "Found", reader: "Reader | None") -> dict[str, Any]:
    """All of it for `--json`."""
    base = None if reader is None else {"name": reader.label, "template": reader.family, "digest": reader.digest}
    return {
        "file": path,
        "format": dataset.format,
        "kind": dataset.kind,
        "records": dataset.records,
        "base": base,
        "assumed": dataset.assumed,
        "findings": [{**_fields(each), "said": each.said()} for each in found.findings],
        "facts": found.facts,
        "tables": {name: dict(counts) for name, counts in found.tables.items()},
    }


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def show(path: Path, dataset: "Dataset", found: "Found", reader: "Reader | None", *, quiet: bool) -> None:
    """What is in the file, then what is wrong with it."""
    line(f"{path}: {dataset.format}, {dataset.kind} rows")
    if not quiet:
        if reader is not None:
            line(f"read by {reader.label}, chat template: {reader.family} ({reader.digest.short})")
        pairs([("in the file", f"{dataset.records:,}"), *_facts(found)])
        for text in dataset.assumed:
            line(f"  assumed: {text}")
        for name, counts in found.tables.items():
            _histogram(name, counts)
    line()
    if not found.findings:
        line("nothing is wrong with it")
    for finding in sorted(found.findings, key=lambda each: _ORDER.index(each.action)):
        line(f"{finding.action:<8} {finding.said()}")


def _facts(found: "Found") -> Iterator[tuple[str, str]]:
    for name, value in found.facts.items():
        if name.startswith("pii.") and not value:
            continue
        spelt = name.replace("_", " ").replace(".", ", ")
        yield spelt, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _histogram(name: str, counts: Sequence[tuple[str, int]]) -> None:
    line(f"\n  {name}")
    most = max(count for _, count in counts)
    width, digits = max(len(label) for label, _ in counts), len(f"{most:,}")
    for label, count in counts:
        line(f"    {printable(label):<{width}}  {count:>{digits},}  {'█' * round(_BAR * count / most)}".rstrip())


def show_readings(readings: "Sequence[Reading]") -> None:
    """Rows as they are read: in colours on a terminal, between brackets elsewhere."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    marks = _COLOURS if coloured else _MARKS
    if any(piece.state != "context" for reading in readings for piece in reading.pieces):
        legend = (_marked(words, state, marks) for state, words in _LEGEND.items())
        sys.stdout.write(f"{', '.join(legend)}\n")
    for reading in readings:
        line(f"\n{reading.title}: {reading.tokens:,} tokens, {reading.learned:,} of them count")
        for piece in reading.pieces:
            sys.stdout.write(_marked(piece.text, piece.state, marks))
        sys.stdout.write("\n")
    sys.stdout.flush()


def _marked(text: str, state: str, marks: dict[str, tuple[str, str]]) -> str:
    begin, end = marks[state]
    return f"{begin}{printable(text)}{end}"
