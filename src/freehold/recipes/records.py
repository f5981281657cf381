"""The record of each run: what was asked, how far it is, what each step of training said, and what came out."""

import contextlib
import os
import shutil
import signal
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from freehold.core.errors import Conflict, Damaged, NotFound, Timeout
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_errors, replacing
from freehold.recipes.history import slug
from freehold.recipes.schema import RecipeFile, parse
from freehold.recipes.sweep import name_of
from freehold.store.processes import alive, me
from freehold.tuning.job import Answered

State = Literal["running", "paused", "done", "failed"]
Kind = Literal["make", "tune"]

RECIPE, POINTS, LOG = "recipe.toml", "points.jsonl", "output.log"
_RECORD = "run.json"
_TAIL = 1 << 16
"""Bytes at the end of the points that are read for the newest: some hundred of them."""
_PATIENCE = 60.0
"""Seconds; a trainer may take thirty to write its checkpoint."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What the trainer said after a step, or when it measured the held-out loss before the next one."""

    time: float
    step: int
    steps: int
    task: str = ""
    """Which step of the run said it: each of a sweep's candidates is one. Older records do not have it."""
    loss: float | None = None
    held_out_loss: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float | None = None
    memory: int | None = None
    """Bytes, at most so far."""
    tokens: int | None = None
    samples: tuple[Answered, ...] = ()
    """What the model said to held-out prompts when the held-out loss was measured."""


class Record(msgspec.Struct, kw_only=True):
    """One run. Times are seconds since 1970."""

    run: str
    name: str
    """Of the model."""
    kind: Kind
    path: Path
    """The recipe's; relative paths in it start there."""
    folder: Path
    """Loss curve, answers and journal, for people."""
    started: float
    state: State = "running"
    pid: int = 0
    born: str = ""
    report: Path | None = None
    """Where its figures are to be written as JSON when it is done."""
    since: float = 0.0
    """When it was begun or gone on with, last."""
    ended: float = 0.0
    spent: float = 0.0
    """Seconds that it ran for, up to `since`."""
    resumed: int = 0
    task: str = ""
    """The step that runs, or ran last."""
    place: Path | None = None
    """Where that works, if it can be gone on with."""
    error: str = ""
    settings: dict[str, Any] = {}
    """The recipe's keys, as `section.key`."""
    figures: dict[str, Any] = {}
    """What tuning took."""
    scores: dict[str, dict[str, float]] = {}
    """Of each model that was measured."""
    passed: bool = True
    """Whether its gate let it through; a run without a gate always does."""
    samples: tuple[dict[str, str], ...] = ()
    """Some of the tuned model's answers: question, answer, reference."""
    result: dict[str, str] = {}
    """Names and the digests that they point to."""

    @property
    def now(self) -> State:
        """The state; a run that was killed could not say so, and is paused."""
        return "paused" if self.state == "running" and not alive(self.pid, self.born) else self.state


def seconds(settings: Settings, record: Record) -> float:
    """How long a run ran, the time in which it was paused left out."""
    if record.now == "running":
        end = time.time()
    else:
        # A run that was killed could not note its end: its last sign of life stands for it.
        point = None if record.ended else last_point(place_of(settings, record.run))
        end = record.ended or (point.time if point else record.since)
    return record.spent + max(0.0, end - record.since)


def place_of(settings: Settings, run: str) -> Path:
    """The folder of a run's record."""
    return settings.runs / "records" / run


def records(settings: Settings) -> list[Record]:
    """All runs, the newest first."""
    found = [_read(path.parent) for path in (settings.runs / "records").glob(f"*/{_RECORD}")]
    return sorted(filter(None, found), key=lambda record: (record.started, record.run), reverse=True)


def find(settings: Settings, text: str) -> Record:
    """The run of this name, or the newest run that makes the model of this name. Raises NotFound."""
    known = records(settings)
    for record in known:
        if text == record.run:
            return record
    for record in known:
        if text == record.name:
            return record
    raise NotFound(f"no such run: {text}", "'freehold runs' lists them")


def points(folder: Path) -> Iterator[Point]:
    """What the trainer said, in its order. A step that was done again after a kill is there more than once."""
    yield from _decoded(_content(folder / POINTS))


def last_point(folder: Path, task: str = "") -> Point | None:
    """The newest point with a loss, else the newest; with `task`, of that training."""
    # Of a sweep's candidates any can be the one that is asked for, and its points lie far from the end.
    for size in (_TAIL, 0):
        found = [point for point in _decoded(_content(folder / POINTS, size)) if _is_of(point, task)]
        if found:
            return next((point for point in reversed(found) if point.loss is not None), found[-1])
    return None


def course(folder: Path, task: str = "") -> list[Point]:
    """What the trainer said in the order of steps, each once: what was done again takes the place of what was done."""
    kept: list[Point] = []
    for point in points(folder):
        if _is_of(point, task):
            while kept and _moment(kept[-1]) >= _moment(point):
                kept.pop()
            kept.append(point)
    return kept


def _is_of(point: Point, task: str) -> bool:
    return not task or point.task in ("", task)


def _moment(point: Point) -> tuple[int, bool]:
    """When in its training a point was said: the held-out loss of a step comes after its own."""
    return point.step, point.loss is None


def losses(folder: Path, task: str = "") -> tuple[dict[int, float], dict[int, float]]:
    """Losses and held-out losses by step."""
    kept = course(folder, task)
    each = {point.step: point.loss for point in kept if point.loss is not None}
    return each, {point.step: point.held_out_loss for point in kept if point.held_out_loss is not None}


def shown_task(settings: Settings, record: Record) -> str:
    """The training that a run's figures are of: of a sweep the candidate that was taken, until then the newest."""
    taken = record.figures.get("chosen")
    if taken and (record.now == "done" or not record.task.startswith("tune")):
        return name_of(str(taken))
    if record.task.startswith(name_of("")):
        return record.task
    point = last_point(place_of(settings, record.run))
    return point.task if point else ""


def recipe_of(settings: Settings, record: Record) -> RecipeFile:
    """The recipe as it was when the run began. Raises Damaged and BadRecipe."""
    path = place_of(settings, record.run) / RECIPE
    try:
        source = path.read_bytes()
        values = tomllib.loads(source.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Damaged(f"the recipe of {record.run} is lost: {path}", f"Make it from {record.path}") from error
    return RecipeFile(parse(values, record.path), record.path, source)


def stop(settings: Settings, record: Record) -> Record:
    """Stop a run as Ctrl-C does, and wait until it has: it can be gone on with. Raises Conflict and Timeout."""
    if record.now != "running":
        raise Conflict(f"{record.run} does not run: it is {record.now}", "'freehold runs' lists those that run")
    os.kill(record.pid, signal.SIGINT)
    end = time.monotonic() + _PATIENCE
    while alive(record.pid, record.born):
        if time.monotonic() > end:
            raise Timeout(
                f"{record.run} (process {record.pid}) still runs",
                f"End it with 'kill -9 {record.pid}'; it goes on from its last checkpoint",
            )
        time.sleep(0.05)
    return find(settings, record.run)


def create(file: RecipeFile, settings: Settings, kind: Kind, folder: Path) -> Record:
    """The record of a run that begins: a new one, or that of the same recipe's last run if it was not finished."""
    pid, born = me()
    record = _unfinished(file, settings, kind)
    if record is None:
        record = _fresh(file, settings, kind, folder)
    else:
        record.resumed += 1
        record.spent = seconds(settings, record)
    record.state, record.pid, record.born, record.ended, record.error = "running", pid, born, 0.0, ""
    record.since = time.time()
    write(settings, record)
    return record


def write(settings: Settings, record: Record) -> None:
    """Keep a record."""
    with replacing(place_of(settings, record.run) / _RECORD) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record, enc_hook=str), indent=1))


def drop(settings: Settings, run: str) -> None:
    """Remove a record, and the folder of all when it is the last."""
    place = place_of(settings, run)
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are there
        place.parent.rmdir()


def _unfinished(file: RecipeFile, settings: Settings, kind: Kind) -> Record | None:
    for record in records(settings):
        same = (record.path, record.kind) == (file.path, kind) and record.now in ("paused", "failed")
        if same and _content(place_of(settings, record.run) / RECIPE) == file.source:
            return record
    return None


def _fresh(file: RecipeFile, settings: Settings, kind: Kind, folder: Path) -> Record:
    base, number = slug(file.recipe.name), 0
    with disk_errors(settings.runs):
        while True:
            number += 1
            place = place_of(settings, f"{base}-{number}")
            try:
                place.mkdir(parents=True)
            except FileExistsError:
                continue
            break
        (place / RECIPE).write_bytes(file.source)
    return Record(
        run=place.name,
        name=str(file.recipe.name),
        kind=kind,
        path=file.path,
        folder=folder,
        started=time.time(),
        settings=_flat(msgspec.to_builtins(file.recipe)),
    )


def _flat(recipe: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, keys in recipe.items() for key, value in keys.items()}


def _read(folder: Path) -> Record | None:
    """None for a record that is just made, was damaged, or is of another run: a copy of its folder is none."""
    try:
        found = msgspec.json.decode((folder / _RECORD).read_bytes(), type=Record, dec_hook=_path)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.run == folder.name else None


def _path(kind: type, value: Any) -> Any:
    return kind(value)


def _content(path: Path, tail: int = 0) -> bytes:
    """A file's bytes, or its last; nothing where there is no file."""
    try:
        with path.open("rb") as file:
            if tail:
                file.seek(max(0, path.stat().st_size - tail))
            return file.read()
    except FileNotFoundError:
        return b""


def _decoded(lines: bytes) -> Iterator[Point]:
    """The points that are whole: a kill can cut the last, and a look at the end the first."""
    decoder = msgspec.json.Decoder(Point)
    for line in lines.splitlines():
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
