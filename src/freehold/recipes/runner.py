"""make: a recipe to a released model, each task once."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from pathlib import Path
from typing import Any

from freehold.core.errors import BadRecipe, FreeholdError, Interrupted
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_errors
from freehold.formats.locks import locked, sweep
from freehold.recipes import tools as rooms
from freehold.recipes.cutting import may_cut, remedy_of, request_of
from freehold.recipes.events import Note, OnEvent, StepBegins, StepEnds
from freehold.recipes.history import folder_of, journal, read_history, write_history
from freehold.recipes.labels import labelled
from freehold.recipes.names import check_free, check_own
from freehold.recipes.outcome import Outcome, gate_passed, outcome_of, samples, scores
from freehold.recipes.plan import Planned, look, plan, remember, tasks_of
from freehold.recipes.recorder import Recorder
from freehold.recipes.records import Kind
from freehold.recipes.schema import RecipeFile, read
from freehold.recipes.sources import check_room, check_signed, settled
from freehold.recipes.task import Result, Task, Work, steps
from freehold.recipes.tools import Tools
from freehold.store import Store

_TUNE = "Make it by: freehold tune BASE DATA --objective classify"
_NEED_EXTRA = ("tune", "merge")
Left = Callable[[], bool]
"""Whether nobody looks at what a run says any more."""


def watched() -> bool:
    """Somebody looks."""
    return False


def make(
    recipe_path: Path,
    settings: Settings,
    *,
    on_event: OnEvent = lambda event: None,
    tools: Tools | None = None,
) -> Outcome:
    """Run a recipe to its end; what is done already is not done again. The outcome says whether the gate was passed.

    Raises BadRecipe, BadData, MissingExtra, DiskFull and Conflict before any work; Interrupted, after which the same
    call goes on.
    """
    file = read(recipe_path)
    if file.recipe.tune.objective == "classify":
        raise BadRecipe(f"{recipe_path}: a classifier is neither quantised nor gated", _TUNE)
    return make_of(file, settings, on_event=on_event, tools=tools)


def make_of(
    file: RecipeFile, settings: Settings, *, on_event: OnEvent, tools: Tools | None = None, left: Left = watched
) -> Outcome:
    """As `make`, of a recipe that is read already."""
    with running(file, settings, tools, on_event, record="make", left=left) as run:
        begin = time.monotonic()
        run.go()
        outcome = outcome_of(run.file, run.results, run.store, run.folder, time.monotonic() - begin)
        measured = {each.model: scores(each) for each in outcome.measured}
        run.conclude(
            result=outcome.names, scores=measured, passed=outcome.passed, samples=samples(run.results, run.store)
        )
        return outcome


@contextmanager
def running(
    file: RecipeFile,
    settings: Settings,
    tools: Tools | None,
    on_event: OnEvent,
    record: Kind | None = None,
    left: Left = watched,
) -> "Iterator[Run]":
    """A run whose store is open and whose folder is its own; what it does is kept in a record, where one is wanted.

    The record of a run that fails before it gets anywhere stays when the user has `left`: it alone says why.
    """
    with Store.open(settings.store, quota=settings.quota) as store:
        if record is not None:
            check_own(file.recipe)
        file = settled(file, store)
        run = Run(file, settings, store, tools or rooms.real(), on_event)
        if record is not None:
            check_free(file, store, record)
            run.recorder = Recorder(file, settings, record, run.folder, on_event)
            run.on_event = run.recorder
        planned = plan(file, store, settings)
        if planned.runs(*_NEED_EXTRA):
            run.tools.require(file.recipe.tune.backend)
            check_signed(file, store, settings)
            check_room(file, store, settings)
        with _run_folder(run, left), run.recorder or nullcontext(), run.leases:
            yield run


class Run:
    """One execution."""

    def __init__(self, file: RecipeFile, settings: Settings, store: Store, tools: Tools, on_event: OnEvent) -> None:
        self.file, self.settings, self.store, self.tools, self.on_event = file, settings, store, tools, on_event
        self.folder = folder_of(file, settings)
        self.history = read_history(file, settings)
        self.results: dict[str, Result] = {}
        self.current = ""
        self.recorder: Recorder | None = None
        self.leases = ExitStack()

    def go(self, *wanted: str) -> None:
        """Run every task that is not done, or of those the kinds that are `wanted`; release only past the gate."""
        sweep(self.settings.runs / "scratch")
        tasks = [task for task in tasks_of(self.file, self.store) if not wanted or task.name.split()[0] in wanted]
        for number, task in enumerate(tasks, 1):
            if task.step == "release" and not gate_passed(self.results):
                break
            self.current = task.name
            self._do(task, number, len(tasks))

    def conclude(self, **fields: Any) -> None:
        """Add to the run's record: what tuning took, once it is done, and `fields`."""
        if self.recorder is not None:
            if "tune" in self.results:
                facts = self.results["tune"].facts
                fields["figures"] = {key: value for key, value in facts.items() if key != "notes"}
            self.recorder.conclude(**fields)

    def _do(self, task: Task, number: int, total: int) -> None:
        item = look(task, self.results, self.store, self.history)
        begin = time.monotonic()
        if item.result is None:
            place = self._place(item) if steps()[task.step].resumable else None
            self.on_event(StepBegins(task.name, number, total, item.why, place))
            result = self._run(item)
            journal(self.folder, task=task.name, why=item.why, seconds=time.monotonic() - begin, facts=result.facts)
        else:
            result = item.result
            self._record(item)
        for text in result.facts.get("notes", ()):
            self.on_event(Note(task.name, text))
        self.results[task.name] = result
        if task.name == "tune":
            self.conclude()
        self.on_event(StepEnds(task.name, number, total, time.monotonic() - begin, item.result is not None))

    def _run(self, item: Planned) -> Result:
        step = steps()[item.task.step]
        self._record(item)
        place = self._place(item)
        inputs = {need: self.results[need] for need in item.task.needs}
        needed = {digest for result in inputs.values() for digest in result.digests}
        with (
            _workplace(place, item.task.name, keep=step.resumable) as over,
            disk_errors(place),
            self.store.lease(*needed),
        ):
            work = Work(
                item.task, self.file, self.settings, self.store, self.tools, place, inputs, self.on_event,
                self._request(),
            )  # fmt: skip
            with labelled(self.file, inputs, place):
                result = step.run(work)
            if result.partial:
                # Nothing remembers it: it is held for the rest of the run, in a context of its own since it outlasts
                # the lease around it.
                copy_context().run(self.leases.enter_context, self.store.lease(*result.digests))
            else:
                remember(self.store, item.key, result)
                over()
        return result

    def _place(self, item: Planned) -> Path:
        """The folder that a task works in."""
        resumable = steps()[item.task.step].resumable
        return (self.settings.resumable if resumable else self.settings.runs / "scratch") / item.key.hex[:32]

    def _request(self) -> Path | None:
        """Where somebody may ask for what the run has learned, if it has a record."""
        record = None if self.recorder is None else self.recorder.record
        return None if record is None else request_of(self.settings, record)

    def _record(self, item: Planned) -> None:
        if self.history.get(item.task.name) != item.ingredients:
            self.history[item.task.name] = item.ingredients
            write_history(self.folder, self.history)


@contextmanager
def _run_folder(run: Run, left: Left) -> Iterator[None]:
    """The recipe's folder, for this process alone; gone again when the run failed before it got anywhere."""
    fresh = not run.folder.exists()
    try:
        with locked(run.folder, str(run.file.recipe.name)):
            yield
    except (KeyboardInterrupt, Interrupted) as error:
        raise _interrupted(run, error) from error
    except FreeholdError:
        if fresh and not run.results:
            shutil.rmtree(run.folder, ignore_errors=True)
            if run.recorder is not None and not left():
                run.recorder.forget()
        raise


def _interrupted(run: Run, error: KeyboardInterrupt | Interrupted) -> Interrupted:
    """What is said of it, with all that the user may do now."""
    said = f"interrupted in the step {run.current!r}", "Run the same command again: it goes on from there"
    message, remedy = (error.message, error.remedy) if isinstance(error, Interrupted) else said
    record = None if run.recorder is None else run.recorder.record
    more = f"; {remedy_of(record)}" if record is not None and may_cut(record) else ""
    return Interrupted(message, f"{remedy}{more}")


@contextmanager
def _workplace(folder: Path, what: str, *, keep: bool) -> Iterator[Callable[[], None]]:
    """A task's folder, for this process alone. Removed at its end; with `keep`, only once it is said to be over."""
    with locked(folder, what), ExitStack() as end:

        def over() -> None:
            end.callback(shutil.rmtree, folder, ignore_errors=True)

        if not keep:
            over()
        yield over
