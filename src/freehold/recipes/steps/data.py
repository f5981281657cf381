"""data: the data file, or what a generator writes, as rows to learn from and rows held out, checked, with its card."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from freehold import data
from freehold.core.errors import BadData
from freehold.data.checks import Found, Value
from freehold.data.findings import Finding
from freehold.data.rows import AnyRow, Dataset
from freehold.proofs import data_card
from freehold.recipes import kinds, survey
from freehold.recipes.reading import digest_of
from freehold.recipes.schema import DataSection, RecipeFile
from freehold.recipes.sources import data_digest, generator_of, held_out_digest, place_of
from freehold.recipes.task import Output, Result, Step, Task, Work
from freehold.store import Store

TRAIN, HELD_OUT = "train.jsonl", "held_out.jsonl"
REPORT, CARD = "data.json", "data-card.md"
_GENERATOR = "generator"
_PATHS = ("path", "generator", "held_out_path")
_KEEP = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, which depends on the content of the file or of the generator's folder, and on how the base reads."""
    section, tune = file.recipe.data, file.recipe.tune
    # Where the data lies makes no difference, only what it says.
    options = {key: value for key, value in msgspec.structs.asdict(section).items() if key not in _PATHS}
    kind = "generator" if section.generator else "source"
    parameters = {kind: data_digest(file).text, "seed": tune.seed, "max_length": tune.max_length, **options}
    held_out = held_out_digest(file)
    if held_out is not None:
        parameters["held_out_source"] = held_out.text
    if tune.method != "scratch":
        base = file.recipe.model.base
        parameters["base"] = digest_of(place_of(base, file.resolve(base), store)).text
    yield Task("data", "data", (), parameters)


def run(work: Work) -> Result:
    """Both sides as canonical rows; what was found wrong, and the data card."""
    read = _generated(work) if work.recipe.data.generator else _loaded(work)
    with survey.reader_of(work.file, work.store) as base:
        measured = survey.measure(read.rows, base, read.name, read.unit, work.recipe.data.broken)
    sides = _divided(work, read, measured)
    if not sides.train or not sides.held_out:
        raise BadData("one side of the data has no rows", "Give more rows")
    found = survey.check(sides, measured, read.findings, read.unit, work.recipe.tune.max_length)
    for name, rows in ((TRAIN, sides.train), (HELD_OUT, sides.held_out)):
        data.write_rows(work.folder / name, rows)
    files = tuple(work.keep(work.folder / name, name) for name in (TRAIN, HELD_OUT))
    counts = {"train": len(sides.train), "held_out": len(sides.held_out)}
    # Extras: what is built on the rows is not built anew because more is found in them.
    return Result(files=files, extras=_card(work, read, files, found), facts={**counts, **_facts(read, sides, found)})


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: rows to divide, or both sides already."""

    name: str
    """What the rows came in."""
    rows: tuple[AnyRow, ...]
    held_out: tuple[AnyRow, ...] | None = None
    format: str
    kind: str
    unit: str
    records: int
    assumed: tuple[str, ...]
    findings: tuple[Finding, ...]


def _of(found: Dataset, name: str, **changed: Any) -> _Read:
    fields = {key: getattr(found, key) for key in _Read.__struct_fields__ if hasattr(found, key)}
    return _Read(name=name, **{**fields, **changed})


def _loaded(work: Work) -> _Read:
    section = work.recipe.data
    path = work.file.resolve(section.path)
    found = survey.load(path, section)
    kinds.check(found.kind, path, section, work.recipe.tune)
    rows = data.sample(found.rows, section.rows, work.recipe.tune.seed) if section.rows else found.rows
    if not section.held_out_path:
        return _of(found, path.name, rows=rows)
    kept = survey.load_held_out(work.file.resolve(section.held_out_path), section, found.kind)
    more = tuple(_elsewhere(kept))
    return _of(found, path.name, rows=rows, held_out=kept.rows, findings=(*found.findings, *more))


def _elsewhere(found: Dataset) -> Iterator[Finding]:
    """What is found in the file that is held out, so that its lines are not taken for the other's."""
    for each in found.findings:
        unit = f"{each.unit} of the file held out"
        yield msgspec.structs.replace(each, check=f"held_out.{each.check}", unit=unit)


def _divided(work: Work, read: _Read, measured: survey.Measured) -> survey.Divided:
    if work.recipe.data.generator:
        return survey.Divided(measured.rows, read.held_out or (), 0, None)
    return survey.divide(measured.rows, read.held_out, work.recipe.data, work.recipe.tune.seed, read.unit)


def _generated(work: Work) -> _Read:
    script = generator_of(work.file)
    seed, rows = work.recipe.tune.seed, work.recipe.data.rows
    command = [sys.executable, str(script), "--out", str(work.folder), "--seed", str(seed)]
    _call([*command, *(["--rows", str(rows)] if rows else [])], script, work.folder / "generator.log")
    section: DataSection = work.recipe.data
    train, held_out = (
        # A generator decides how often a row occurs.
        data.load(
            work.folder / name, format="jsonl", kind=section.kind, system=section.system, repetitions=True,
            broken=section.broken, pii=section.pii,
        )
        for name in (TRAIN, HELD_OUT)
    )  # fmt: skip
    kinds.check(train.kind, script, section, work.recipe.tune)
    note = f"{script.name} wrote {len(train.rows)} rows to learn from and {len(held_out.rows)} to hold out"
    findings = (*train.findings, *_elsewhere(held_out))
    return _of(train, TRAIN, held_out=held_out.rows, format=_GENERATOR, assumed=(note,), findings=findings)


def _facts(read: _Read, sides: survey.Divided, found: Found) -> dict[str, Any]:
    notes = [*read.assumed, *(finding.said() for finding in found.findings)]
    if read.format != _GENERATOR:
        groups = f", from {sides.groups} groups of near-duplicate questions" if sides.groups else ""
        notes.append(f"{len(sides.train)} rows to learn from, {len(sides.held_out)} held out{groups}")
        notes += [survey.EXACT] if sides.exact else []
    return {
        "notes": notes,
        "format": read.format,
        "kind": read.kind,
        "records": read.records,
        "groups": sides.groups,
        "findings": msgspec.to_builtins(found.findings),
        "checks": found.facts,
    }


def _card(work: Work, read: _Read, files: tuple[Output, ...], found: Found) -> tuple[Output, ...]:
    train, held_out = (output.digest for output in files)
    source = str(work.task.parameters.get("source") or work.task.parameters["generator"])
    seen: dict[str, Value] = {"kind": read.kind, "format": read.format, "records": read.records, "file": source}
    report = data_card.evidence(data_card.Sides(train, held_out), found, seen, work.recipe.data.about)
    return work.keep_bytes(report, REPORT), work.keep_bytes(data_card.card(report).encode(), CARD)


def _call(command: list[str], script: Path, log: Path) -> None:
    """Run the generator in a process of its own. Raises BadData with the last thing it said."""
    environment = {name: os.environ[name] for name in _KEEP if name in os.environ}
    # Sets and dictionaries keyed by hash would otherwise give another text each time.
    environment |= {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    with log.open("wb") as output:
        ended = subprocess.run(
            command,
            cwd=script.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if ended.returncode:
        last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise BadData(f"{script.name} ended with code {ended.returncode}: {last[0][:300]}", "Correct the generator")


STEP = Step("data", tasks, run, rooms=("data",), order=0)
