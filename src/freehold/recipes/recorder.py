"""Writes the record of a run while it runs, from what the runner says."""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from freehold.core.errors import FreeholdError, Interrupted
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_errors
from freehold.recipes import records, trackers
from freehold.recipes.events import Note, OnEvent, RunBegins, RunEvent, StepBegins, StepEnds, StepMoves
from freehold.recipes.records import LOG, POINTS, Kind, Point, Record
from freehold.recipes.schema import RecipeFile
from freehold.tuning.job import Progress

_PERIOD = 30.0
"""Seconds between two lines of the log on how far a step is; a tenth of it is told at once."""


class Recorder:
    """Hears a run's events, keeps them, and hands them on. A run in which nothing has to be done leaves no record."""

    def __init__(self, file: RecipeFile, settings: Settings, kind: Kind, folder: Path, on_event: OnEvent) -> None:
        self.file, self.settings, self.kind, self.folder, self.on_event = file, settings, kind, folder, on_event
        self.tracker = trackers.known(file.recipe.tune.log)
        self.record: Record | None = None
        self._fields: dict[str, Any] = {}
        self._opened = ExitStack()
        self._tenth, self._told = -1, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        record = self.record
        with self._opened:
            if record is None:
                return
            record.ended = time.time()
            record.state = _state(error)
            record.error = "" if error is None or record.state == "paused" else _line(error)
            records.write(self.settings, record)
            self._log(f"{record.run}: {record.state}{f', {record.error}' if record.error else ''}")

    def __call__(self, event: RunEvent) -> None:
        """Keep one event."""
        if isinstance(event, StepBegins):
            self._begins(event)
        elif self.record is not None:
            self._keep(event)
        self.on_event(event)

    def forget(self) -> None:
        """Leave no record of a run that came to nothing, where it is not older than this process."""
        if self.record is not None and not self.record.resumed:
            records.drop(self.settings, self.record.run)

    def conclude(self, **fields: Any) -> None:
        """Add what came out, or what is known before it begins: fields of the record."""
        self._fields |= fields
        if self.record is not None:
            self.record = msgspec.structs.replace(self.record, **fields)

    def _begins(self, event: StepBegins) -> None:
        if self.record is None:
            self.record = self._create()
            self.on_event(RunBegins(self.record.run, records.place_of(self.settings, self.record.run)))
        self.record.task, self.record.place, self._tenth = event.task, event.place, -1
        records.write(self.settings, self.record)
        self._log(f"[{event.number}/{event.total}] {event.task}: {event.why}")

    def _create(self) -> Record:
        record = records.create(self.file, self.settings, self.kind, self.folder)
        record = msgspec.structs.replace(record, **self._fields)
        place = records.place_of(self.settings, record.run)
        with disk_errors(place):
            self._points = self._opened.enter_context((place / POINTS).open("ab", buffering=0))
            self._lines = self._opened.enter_context((place / LOG).open("a", encoding="utf-8", buffering=1))
        if self.tracker is not None:
            self._write = self._opened.enter_context(trackers.tracking(self.tracker, self.file, record, place))
        return record

    def _keep(self, event: RunEvent) -> None:
        if isinstance(event, StepMoves):
            self._moves(event)
        elif isinstance(event, StepEnds):
            how = "done before" if event.before else f"done in {event.seconds:.1f} s"
            self._log(f"[{event.number}/{event.total}] {event.task}: {how}")
        elif isinstance(event, Note):
            self._log(f"  {event.text}")

    def _moves(self, event: StepMoves) -> None:
        if event.report is not None:
            self._point(event.report, event.task)
        tenth = int(event.fraction * 10)
        if event.text and (tenth != self._tenth or time.monotonic() - self._told > _PERIOD):
            self._tenth, self._told = tenth, time.monotonic()
            self._log(f"  {event.fraction:4.0%}  {event.text}")

    def _point(self, report: Progress, task: str) -> None:
        point = _point(report, task)
        if point is None:
            return
        with disk_errors(self.folder):
            self._points.write(msgspec.json.encode(point) + b"\n")
        if self.tracker is not None:
            self._write(point)

    def _log(self, text: str) -> None:
        with disk_errors(self.folder):
            self._lines.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(text.splitlines())}\n")


def _point(report: Progress, task: str) -> Point | None:
    """None for what tells no figures."""
    point = Point(time=time.time(), step=report.step, steps=report.steps, task=task)
    if report.held_out_loss is not None:
        return msgspec.structs.replace(point, held_out_loss=report.held_out_loss, samples=report.samples)
    if report.phase != "training":
        return None
    return msgspec.structs.replace(
        point,
        loss=report.loss,
        gradient_norm=report.gradient_norm,
        tokens_per_second=report.tokens_per_second,
        memory=report.memory,
        tokens=report.tokens,
    )


def _state(error: BaseException | None) -> records.State:
    if error is None:
        return "done"
    return "paused" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"


def _line(error: BaseException) -> str:
    return error.line() if isinstance(error, FreeholdError) else f"{type(error).__name__}: {error}"
