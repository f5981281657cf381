"""A data file looked at as a recipe will: read, measured by the base, split, checked."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import NamedTuple

from freehold import data
from freehold.core.errors import BadData
from freehold.data.checks import Found, Material, examine
from freehold.data.findings import Finding, finding
from freehold.data.grouping import THRESHOLDS
from freehold.data.leaks import sought
from freehold.data.loading import Broken
from freehold.data.rows import AnyRow, Conversation, Dataset
from freehold.recipes.reading import Reader, reader
from freehold.recipes.schema import DataSection, RecipeFile
from freehold.recipes.sources import place_of
from freehold.store import Store

_MEASURED = 50_000
"""Rows of which tokens are counted, evenly taken."""
_CONTROL = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{1,60}\]")
"""How control tokens are spelt: <|im_start|>, <s>, [INST]."""
EXACT = "most questions differ in numbers, symbols or the order of words alone: those count as different questions"
"""What is said where the two sides are kept apart by that."""


class Measured(NamedTuple):
    """Rows that the base can read, how long each is, and what is wrong with others."""

    rows: tuple[AnyRow, ...]
    lengths: Mapping[int, int]
    """Tokens by the row's `id`; empty without a base."""
    findings: tuple[Finding, ...] = ()


class Divided(NamedTuple):
    """The rows on both sides, and how they were kept apart."""

    train: tuple[AnyRow, ...]
    held_out: tuple[AnyRow, ...]
    groups: int
    """Groups of near-duplicate questions; 0 where a file of its own is held out."""
    similarity: float | None
    """From which questions count as near-duplicates; None for the usual."""
    findings: tuple[Finding, ...] = ()
    exact: bool = False
    """Whether numbers, symbols and the order of words had to tell questions apart, which they do not otherwise."""


def reader_of(file: RecipeFile, store: Store) -> AbstractContextManager[Reader | None]:
    """How the recipe's base reads; None for a model that is made from nothing."""
    if file.recipe.tune.method == "scratch":
        return nullcontext(None)
    label = file.recipe.model.base
    return reader(place_of(label, file.resolve(label), store), label, store)


def load(path: Path, section: DataSection, *, minimum: int = data.MIN_ROWS, broken: Broken | None = None) -> Dataset:
    """The rows of a file, read as the recipe says. Raises BadData, MissingExtra, TooLarge."""
    return data.load(
        path,
        columns=section.columns,
        format=section.format,
        kind=section.kind,
        system=section.system,
        minimum=minimum,
        broken=broken or section.broken,
        pii=section.pii,
    )


def load_held_out(path: Path, section: DataSection, kind: str, *, broken: Broken | None = None) -> Dataset:
    """The rows of a file that is held out: of the same kind, in a format of its own. Raises BadData."""
    return data.load(
        path,
        columns=section.columns,
        kind=kind,
        system=section.system,
        minimum=1,
        broken=broken or section.broken,
        pii=section.pii,
    )


def measure(rows: Sequence[AnyRow], base: Reader | None, where: str, unit: str, broken: Broken) -> Measured:
    """How long the rows are, as the base reads them. Raises BadData for one that its template refuses.

    Unless broken rows are to be dropped, or only listed.
    """
    if base is None or not rows:
        return Measured(tuple(rows), {})
    looked_at = rows[:: max(1, -(-len(rows) // _MEASURED))]
    found = base.lengths(looked_at)
    lengths = {id(row): length for row, length in zip(looked_at, found.tokens, strict=True) if length}
    findings = [*_unshown(rows, base, unit), *_controlled(rows, base, unit), *_silent(found.silent, unit)]
    refused = {id(row) for row, _ in found.refused}
    if refused:
        (first, reason), *_ = found.refused
        if broken == "stop":
            raise BadData(
                f"{where} {unit} {first.line}: {reason}; {len(refused):,} in all",
                'Change them, take another base, or leave them out: [data] broken = "drop"',
            )
        lines = [(row.line, reason) for row, reason in found.refused]
        text = "row{s} {are} refused by the chat template of the base"
        findings.append(finding("template", "dropped" if broken == "drop" else "refused", text, lines, unit))
    return Measured(tuple(row for row in rows if id(row) not in refused), lengths, tuple(findings))


def _unshown(rows: Sequence[AnyRow], base: Reader, unit: str) -> list[Finding]:
    """Tools that the base will not see."""
    if base.knows_tools:
        return []
    lines = [row.line for row in rows if isinstance(row, Conversation) and (row.tools or _calls(row))]
    text = "row{s} {have} tools or calls that the chat template of the base does not show"
    return [finding("tools.template", "kept", text, lines, unit)] if lines else []


def _silent(rows: Sequence[AnyRow], unit: str) -> list[Finding]:
    """Rows that nothing can be learned from."""
    text = "row{s} {have} no answer in what the chat template of the base shows"
    return [finding("answers.template", "kept", text, [row.line for row in rows], unit)] if rows else []


def _controlled(rows: Sequence[AnyRow], base: Reader, unit: str) -> list[Finding]:
    """Texts that hold what the base reads as its own marks: of a template that was applied already, or of somebody
    who writes about one.
    """
    known = cache(base.controls)
    lines = []
    for row in rows:
        spelt = (match[0] for text in data.texts(row) for match in _CONTROL.finditer(text))
        if token := next(filter(known, spelt), None):
            lines.append((row.line, token))
    text = "row{s} {have} control tokens of the base in the text, beside those that its chat template writes"
    return [finding("control", "kept", text, lines, unit)] if lines else []


def _calls(row: Conversation) -> bool:
    return any(message.tool_calls for message in row.messages)


def divide(
    rows: Sequence[AnyRow], held_out: Sequence[AnyRow] | None, section: DataSection, seed: int, unit: str
) -> Divided:
    """Both sides: `held_out` where it is given, else a share of the rows. Raises BadData."""
    if held_out is None:
        parts = data.divide(rows, section.held_out, seed)
        return Divided(parts.train, parts.held_out, parts.groups, parts.threshold, exact=parts.exact)
    found, exact = sought(rows, held_out)
    gone = {id(leak.row) for leak in found}
    if len(gone) == len(rows):
        raise BadData(
            f"all {len(rows):,} rows ask what is held out too ({unit} {found[0].row.line}: {found[0].said})",
            "Give another file as [data] held_out_path, or leave it out: then some rows are held out",
        )
    text = "row{s} that ask{v} what is held out {are} left out"
    findings = [finding("leak", "dropped", text, [(leak.row.line, leak.said) for leak in found], unit)] if found else []
    train = data.sample([row for row in rows if id(row) not in gone], len(rows), seed)
    return Divided(train, data.sample(held_out, len(held_out), seed), 0, None, tuple(findings), exact)


def check(sides: Divided, measured: Measured, known: Sequence[Finding], unit: str, max_length: int) -> Found:
    """What the checks find in rows that were read, measured and divided."""
    rows = tuple(sorted(sides.train, key=lambda row: row.line))
    material = Material(
        rows=rows,
        held_out=sides.held_out,
        unit=unit,
        lengths=tuple(measured.lengths.get(id(row), 0) for row in rows) if measured.lengths else (),
        similarity=THRESHOLDS[0] if sides.similarity is None else sides.similarity,
        exact=sides.exact,
        max_length=max_length,
    )
    return examine(material, (*known, *measured.findings, *sides.findings))
