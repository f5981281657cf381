"""Tuning jobs: recipes that are made in a child process, one after the other, kills or not."""

import asyncio
import csv
import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from freehold.core import errors
from freehold.core.errors import (
    BadInput,
    Busy,
    Conflict,
    FreeholdError,
    GateFailed,
    NoRoom,
    NotEnoughMemory,
    NotFound,
    WorkerFailed,
)
from freehold.core.settings import Settings
from freehold.engines.supervisor import Child
from freehold.recipes import child as recipes
from freehold.recipes.child import Checked, Made, Order, Refused, Report, Score
from freehold.recipes.events import Note, StepBegins, StepMoves
from freehold.serving.described import surplus
from freehold.serving.diary import Level, Metrics, Room, Said, Status, Tuning
from freehold.serving.jobs import Fault

if TYPE_CHECKING:
    from freehold.serving.desk import Desk

MAX_JOBS = 1000
"""Jobs that are kept; a new one takes the place of the oldest that has ended."""
COMMAND = (sys.executable, "-P", "-m", "freehold.recipes.child")
MOST_STEPS = 1000
"""Steps that are told of, evenly taken."""
_GRACE = 40.0
"""Seconds in which a child that is to stop may write its checkpoint."""
_PATIENCE = 5.0
"""Seconds between looks whether a job can go on again."""
_log = logging.getLogger("freehold.tunings")


class Wish(NamedTuple):
    """What is to be tuned on which files. The recipe names them as `diary` does."""

    identifier: str
    kind: str
    """The dialect's name for jobs of its own."""
    recipe: dict[str, dict[str, Any]]
    training: Path
    validation: Path | None
    purpose: str
    """Of the file with the results."""
    about: dict[str, Any]
    words: str
    """How the diary begins."""


class Run:
    """A child at work on a job."""

    def __init__(self, job: Tuning, child: Child, room: Room) -> None:
        self.job, self.child, self.room = job, child, room
        self.stopped = False
        """Whether it was told to end: what it still says counts no more."""
        self.said = {each.text for each in room.diary.read()}
        self.measured, self.held_out = room.diary.measured()

    def hang_up(self) -> None:
        """Tell it to end, which it must do in time."""
        self.stopped = True
        self.child.hang_up()
        asyncio.get_running_loop().call_later(_GRACE, self.child.kill)

    def say(self, text: str, level: Level = "info") -> None:
        """Add to the diary what it does not say yet: what was done before a stop is told of again after it."""
        if text not in self.said:
            self.said.add(text)
            self.room.diary.add(level, text)

    def measure(self, found: Metrics) -> None:
        """Add a measurement to the diary, unless it is there; of very many steps, some."""
        known = self.measured if found.held_out_loss is None else self.held_out
        every = -(-found.steps // MOST_STEPS)
        if found.step in known or (found.loss is None and found.held_out_loss is None):
            return
        if found.held_out_loss is None and found.step % every and found.step != found.steps:
            return
        known.add(found.step)
        shown = {"training loss": found.loss, "validation loss": found.held_out_loss}
        losses = ", ".join(f"{name}={value:.4f}" for name, value in shown.items() if value is not None)
        self.room.diary.add("info", f"Step {found.step}/{found.steps}: {losses}", found)


class Tunings:
    """The jobs of one home, and the tasks that work on them."""

    def __init__(self, desk: "Desk", settings: Settings) -> None:
        self.command = COMMAND
        self._desk = desk
        self._root = settings.tunings
        self._jobs: dict[str, Tuning] | None = None
        self._rooms: dict[str, Room] = {}
        self._loading = asyncio.Lock()
        self._active: dict[str, Run] = {}
        self._runners: dict[bool, asyncio.Task[None]] = {}
        """The one that checks, and the one that makes."""
        self._finishing: set[str] = set()
        """Jobs whose model is there already."""
        self._noting = threading.Lock()
        """What is written last is what holds."""
        self._halted = False

    def start(self) -> None:
        """Go on with what an earlier server left."""
        if self._root.is_dir():
            self._wake()

    async def stop(self) -> None:
        """Leave everything for the next server. A child that does not stop soon is killed: its checkpoints stay."""
        self._halted = True
        for task in self._runners.values():
            task.cancel()
        await asyncio.gather(*self._runners.values(), return_exceptions=True)

    async def create(self, wish: Wish) -> Tuning:
        """A new job. Raises MissingExtra, NoRoom, BadRecipe, and what finding its base raises."""
        jobs = await self._loaded()
        room = Room(self._root, wish.identifier)
        source = await asyncio.to_thread(self._recipe, wish, room)
        name = wish.recipe["model"]["name"]
        job = Tuning(id=wish.identifier, kind=wish.kind, created=time.time(), model=name, about=wish.about)
        job.about["purpose"] = wish.purpose
        gone = surplus(jobs, MAX_JOBS, "tuning jobs")

        def work() -> None:
            for old in gone:
                self._room(old).remove()
                self._rooms.pop(old.id, None)
            self._desk.files.admit(0)
            room.create(job, source, wish.training, wish.validation)
            room.diary.add("info", wish.words)

        await asyncio.to_thread(work)
        jobs[job.id] = job
        self._rooms[job.id] = room
        self._wake()
        return job

    async def all(self, kind: str) -> list[Tuning]:
        """Those of a kind, the newest first."""
        jobs = [job for job in (await self._loaded()).values() if job.kind == kind]
        return sorted(jobs, key=lambda job: (job.created, job.id), reverse=True)

    async def get(self, kind: str, identifier: str) -> Tuning:
        """One of them. Raises NotFound."""
        job = (await self._loaded()).get(identifier)
        if job is None or job.kind != kind:
            raise NotFound(f"there is no tuning job {identifier[:80]!r}", "List the jobs to see what is there")
        return job

    async def diary(self, job: Tuning) -> list[Said]:
        """What happened to it, the newest first."""
        return (await asyncio.to_thread(self._room(job).diary.read))[::-1]

    async def cancel(self, kind: str, identifier: str) -> Tuning:
        """End it. Raises NotFound, and BadInput for one that has ended."""
        job = await self._changeable(kind, identifier)
        await self._turn(job, "cancelled", "The job was cancelled")
        await asyncio.to_thread(self._room(job).finish)
        return job

    async def pause(self, kind: str, identifier: str) -> Tuning:
        """Stop it for now. Raises NotFound, and BadInput for one that has ended."""
        job = await self._changeable(kind, identifier)
        if job.status != "paused":
            await self._turn(job, "paused", "The job was paused")
        return job

    async def resume(self, kind: str, identifier: str) -> Tuning:
        """Let it go on. Raises NotFound, and BadInput for one that is not paused."""
        job = await self._changeable(kind, identifier)
        if job.status != "paused":
            raise BadInput(f"the job is {job.status}", "Only a job that is paused can be resumed")
        await self._turn(job, "queued" if job.checked else "validating_files", "The job was resumed")
        self._wake()
        return job

    async def _changeable(self, kind: str, identifier: str) -> Tuning:
        job = await self.get(kind, identifier)
        if job.ended or job.id in self._finishing:
            said = job.status if job.ended else "about to succeed"
            raise BadInput(f"the job is {said} already", "Only a job that is still worked on can be changed")
        return job

    async def _turn(self, job: Tuning, status: Status, words: str) -> None:
        """Have it come to a status; what is done for it ends."""
        job.turn(status)
        if (run := self._active.get(job.id)) is not None:
            run.hang_up()
        await asyncio.to_thread(self._noted, job, words)

    def _noted(self, job: Tuning, words: str, level: Level = "info") -> None:
        with self._noting:
            self._room(job).diary.add(level, words)
            self._room(job).save(job)

    def _recipe(self, wish: Wish, room: Room) -> bytes:
        """The recipe's text. Raises MissingExtra, BadRecipe, UnknownModel and Unsupported."""
        from freehold.recipes.sources import base_of, check_signed
        from freehold.recipes.tuning import recipe_of
        from freehold.tuning.launch import require_extra

        require_extra()
        file = recipe_of(wish.recipe, room.path)
        try:
            base_of(file, self._desk.store)
        except FreeholdError as error:
            error.param = "model"
            raise
        check_signed(file, self._desk.store, self._desk.settings)
        return file.source

    def _room(self, job: Tuning) -> Room:
        return self._rooms.setdefault(job.id, Room(self._root, job.id))

    async def _loaded(self) -> dict[str, Tuning]:
        async with self._loading:
            if self._jobs is None:
                self._jobs = await asyncio.to_thread(self._load)
        return self._jobs

    def _load(self) -> dict[str, Tuning]:
        names = sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []
        jobs = [job for name in names if (job := Room(self._root, name).load()) is not None]
        for job in jobs:
            if job.ended:
                self._room(job).finish()
        return {job.id: job for job in jobs}

    def _wake(self) -> None:
        for check in (True, False):
            runner = self._runners.get(check)
            if runner is None or runner.done():
                self._runners[check] = asyncio.create_task(self._run(check))

    async def _run(self, check: bool) -> None:
        await self._loaded()
        while (job := self._next(check)) is not None:
            await self._bring(job, check)

    def _next(self, check: bool) -> Tuning | None:
        wanted = ("validating_files",) if check else ("running", "queued")
        waiting = [job for job in (self._jobs or {}).values() if job.status in wanted]
        return min(waiting, key=lambda job: (job.status != wanted[0], job.created), default=None)

    async def _bring(self, job: Tuning, check: bool) -> None:
        """Check it, or make it; one that cannot be brought further costs no other."""
        (error,) = await asyncio.gather(self._work(job, check), return_exceptions=True)
        if isinstance(error, NoRoom | Conflict | Busy) and not isinstance(error, NotEnoughMemory):
            _log.warning("the tuning job %s waits: %s", job.id, error.line())
            await asyncio.sleep(_PATIENCE)
        elif isinstance(error, FreeholdError):
            await self._failed(job, error)
        elif error is not None and not self._halted:
            _log.error("the tuning job %s met an error that is ours", job.id, exc_info=error)
            await self._failed(
                job, FreeholdError("the server failed at this job", "Its log says why; please report it")
            )

    async def _failed(self, job: Tuning, error: FreeholdError) -> None:
        self._finishing.discard(job.id)
        job.fault = Fault(error.code, error.line(), param=error.param)
        job.turn("failed")
        with suppress(FreeholdError, OSError):  # the next server tries again, if its folder is there
            await asyncio.to_thread(self._noted, job, f"The job failed: {error.line()}", "error")
            await asyncio.to_thread(self._room(job).finish)

    async def _work(self, job: Tuning, check: bool) -> None:
        """Have a child do it, and heed what it says, unless it is told to stop meanwhile."""
        room = self._room(job)
        wanted: Status = "validating_files" if check else "running"
        if job.status != wanted:
            job.turn(wanted)
            await asyncio.to_thread(self._noted, job, "Fine-tuning job started")
        if job.status != wanted:
            return  # cancelled or paused meanwhile
        order = msgspec.to_builtins(Order(room.recipe, self._desk.settings, check), enc_hook=str)
        child = Child(self.command, order, os.environ, f"the job {job.id}")
        try:
            run = self._active[job.id] = await asyncio.to_thread(Run, job, child, room)
            if job.status != wanted:
                run.hang_up()
            last = await self._followed(run, check)
        finally:
            self._active.pop(job.id, None)
            await child.stop(self._desk.settings.drain_seconds if self._halted else _GRACE)
        if run.stopped:
            return
        if isinstance(last, Refused):
            raise getattr(errors, last.kind)(last.message, last.remedy)
        if last is None:
            raise WorkerFailed(f"the process of the job {await child.ending()}", "Its log says more; send it again")
        if isinstance(last, Made):
            await asyncio.to_thread(self._finish, run, last)
        else:
            job.checked = True
            job.turn("queued")
            await asyncio.to_thread(self._noted, job, "Files validated, moving job to queued state")
            self._wake()

    async def _followed(self, run: Run, check: bool) -> Checked | Made | Refused | None:
        """The last word of a child; what it says before that is written down."""
        last: Checked | Made | Refused | None = None
        while line := await run.child.line():
            try:
                report = recipes.read(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break  # it died in the middle of a word; how it ended says why
            if isinstance(report, Checked | Made | Refused):
                last = report
                if isinstance(report, Made) and not run.stopped:
                    self._finishing.add(run.job.id)
            elif not run.stopped:
                await asyncio.to_thread(_heard, run, report, check)
        return last

    def _finish(self, run: Run, made: Made) -> None:
        """Keep what was measured, where the client will look for it, and tell that it is done."""
        job = run.job
        if not made.name:
            raise GateFailed("the gate of the recipe kept the model", "Take a recipe whose gate is open")
        points = list(_points(made.folder / "loss.csv"))
        for point in points:
            run.measure(point)
        identifier = "file-" + hashlib.sha256(f"{job.id} results".encode()).hexdigest()[:24]
        self._desk.files.write(
            _table(points, made.scores), f"{job.id}_results.csv", job.about["purpose"], identifier=identifier
        )
        job.results, job.tokens, job.scores, job.steps = identifier, made.tokens, made.scores, len(points) - 1
        job.loss = points[-1].loss
        job.held_out_loss = next((each.held_out_loss for each in reversed(points) if each.held_out_loss), None)
        for text in (*map(_score, made.scores), f"New fine-tuned model created: {job.model}"):
            run.say(text)
        job.turn("succeeded")
        self._noted(job, "The job has successfully completed")
        self._finishing.discard(job.id)
        run.room.finish()


def _heard(run: Run, report: Report, check: bool) -> None:
    """Write down what a child says on its way."""
    if isinstance(report, StepBegins) and not check:
        run.job.ends = None
        run.say(f"Step of the recipe: {report.task}")
    elif isinstance(report, Note):
        run.say(f"{report.task}: {report.text}")
    elif isinstance(report, StepMoves) and report.report is not None:
        told = report.report
        if told.phase == "training":
            run.job.ends = time.time() + told.seconds_left
        loss = told.loss if told.phase == "training" else None
        run.measure(Metrics(told.step, told.steps, loss, told.held_out_loss))


def _points(path: Path) -> Iterator[Metrics]:
    """What training measured: before it, and after each step. In the file a step's loss stands where it began."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    losses: list[float | None] = [None, *(float(row["loss"]) for row in rows if row["loss"])]
    for step, (row, loss) in enumerate(zip(rows, losses, strict=True)):
        yield Metrics(step, len(rows) - 1, loss, float(row["held_out_loss"]) if row["held_out_loss"] else None)


def _table(points: Sequence[Metrics], scores: Sequence[Score]) -> Iterator[bytes]:
    """The lines of the file with the results: the base's scores beside step 0, the result's beside the last step."""
    yield b"step,train_loss,valid_loss,valid_token_f1,valid_exact_match"
    beside = {0: scores[0], points[-1].step: scores[-1]}
    for point in points:
        score = beside.get(point.step)
        found = (point.loss, point.held_out_loss, *((score.token_f1, score.exact_match) if score else (None, None)))
        yield ",".join([str(point.step), *("" if value is None else repr(value) for value in found)]).encode()


def _score(score: Score) -> str:
    return (
        f"Of {score.rows} held-out rows, {'the base' if score.model == 'base' else 'the new model'} answered "
        f"{score.exact_match:.1%} exactly; token F1 {score.token_f1:.3f}"
    )
