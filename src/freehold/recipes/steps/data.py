"""data: the data file, or what a generator writes, as rows to learn from and rows held out."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from freehold import data
from freehold.core.errors import BadData
from freehold.recipes.schema import RecipeFile
from freehold.recipes.sources import data_digest, generator_of
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store

TRAIN, HELD_OUT = "train.jsonl", "held_out.jsonl"
_KEEP = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, which depends on the content of the file or of the generator's folder."""
    section = file.recipe.data
    # Where the data lies makes no difference, only what it says.
    options = {key: value for key, value in msgspec.structs.asdict(section).items() if key not in ("path", "generator")}
    kind = "generator" if section.generator else "source"
    yield Task("data", "data", (), {kind: data_digest(file).text, "seed": file.recipe.tune.seed, **options})


def run(work: Work) -> Result:
    """Both sides as canonical rows."""
    train, held_out, facts = _generated(work) if work.recipe.data.generator else _split(work)
    if not train or not held_out:
        raise BadData("one side of the data has no rows", "Give more rows")
    for name, rows in ((TRAIN, train), (HELD_OUT, held_out)):
        data.write_rows(work.folder / name, rows)
    files = tuple(work.keep(work.folder / name, name) for name in (TRAIN, HELD_OUT))
    return Result(files=files, facts={"train": len(train), "held_out": len(held_out), **facts})


_Sides = tuple[tuple[data.Row, ...], tuple[data.Row, ...], dict[str, object]]


def _split(work: Work) -> _Sides:
    section = work.recipe.data
    found = data.load(
        work.file.resolve(section.path), columns=section.columns, format=section.format, system=section.system
    )
    rows = data.sample(found.rows, section.rows, work.recipe.tune.seed) if section.rows else found.rows
    parts = data.divide(rows, section.held_out, work.recipe.tune.seed)
    notes = [
        *found.notes,
        f"{len(parts.train)} rows to learn from, {len(parts.held_out)} held out, "
        f"from {parts.groups} groups of near-duplicate questions",
    ]
    return parts.train, parts.held_out, {"notes": notes, "format": found.format, "groups": parts.groups}


def _generated(work: Work) -> _Sides:
    script = generator_of(work.file)
    seed, rows = work.recipe.tune.seed, work.recipe.data.rows
    command = [sys.executable, str(script), "--out", str(work.folder), "--seed", str(seed)]
    _call([*command, *(["--rows", str(rows)] if rows else [])], script, work.folder / "generator.log")
    sides = [
        # A generator decides how often a row occurs.
        data.load(work.folder / name, format="jsonl", system=work.recipe.data.system, repetitions=True)
        for name in (TRAIN, HELD_OUT)
    ]
    train, held_out = (side.rows for side in sides)
    notes = [f"{script.name} wrote {len(train)} rows to learn from and {len(held_out)} to hold out"]
    return train, held_out, {"notes": notes, "format": "generator"}


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
