"""Step, Task, Result, Work: the words between the runner and the files in steps/."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.settings import Settings
from freehold.recipes.events import Note, OnEvent, StepMoves
from freehold.recipes.schema import Recipe, RecipeFile
from freehold.recipes.tools import Tools
from freehold.store import Store
from freehold.tuning.job import Progress


class Output(msgspec.Struct, frozen=True):
    """A file that a task made: its name, such as `model/config.json`, and its content in the store."""

    name: str
    digest: Digest
    size: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a task made."""

    files: tuple[Output, ...]
    """The same for the same key."""
    extras: tuple[Output, ...] = ()
    """Files for people, on which nothing is built."""
    facts: dict[str, Any] = {}
    """What differs from one machine or run to the next: seconds, speed."""
    partial: bool = False
    """Whether it was asked for before its end: it is this run's result, and not what the key stands for."""

    @property
    def digest(self) -> Digest:
        """Of what later tasks build on."""
        return Digest.of_json([(output.name, output.digest.text) for output in self.files])

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Everything that must stay in the store."""
        return tuple(output.digest for output in (*self.files, *self.extras))

    def file(self, name: str) -> Output:
        """The file or extra of this name."""
        return next(output for output in (*self.files, *self.extras) if output.name == name)

    def has(self, name: str) -> bool:
        """Whether there is one."""
        return any(output.name == name for output in (*self.files, *self.extras))


class Task(msgspec.Struct, frozen=True):
    """One unit of a run: a step for one model or type, the results it needs, and all else that it depends on."""

    name: str
    step: str
    needs: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}


@dataclass(frozen=True)
class Work:
    """What a step's `run` is given. `folder` is its own; whatever it leaves there is removed afterwards."""

    task: Task
    file: RecipeFile
    settings: Settings
    store: Store
    tools: Tools
    folder: Path
    inputs: Mapping[str, Result]
    on_event: OnEvent
    request: Path | None = None
    """A file that, once it is there, asks for what has been learned so far."""

    @property
    def recipe(self) -> Recipe:
        """The recipe that is made."""
        return self.file.recipe

    def input(self, name: str, task: str | None = None) -> Path:
        """A file of a result that this task needs, in the store: to be read, not written."""
        results = [self.inputs[task]] if task else list(self.inputs.values())
        output = next(output for result in results for output in result.files if output.name == name)
        return self.store.path(output.digest)

    def keep(self, path: Path, name: str) -> Output:
        """Move a file into the store."""
        digest, size = self.store.add_file(path, move=True)
        return Output(name, digest, size)

    def keep_bytes(self, data: bytes, name: str) -> Output:
        """Put `data` into the store."""
        return Output(name, self.store.add_bytes(data), len(data))

    def keep_folder(self, folder: Path, prefix: str) -> tuple[Output, ...]:
        """Move a folder's files into the store, named `prefix/filename`."""
        return tuple(self.keep(path, f"{prefix}/{path.name}") for path in sorted(folder.iterdir()) if path.is_file())

    def unpack(self, task: str, prefix: str) -> Path:
        """A needed result's files under `prefix/`, as an ordinary folder."""
        from freehold.core.manifest import Manifest, Part
        from freehold.store.importing import materialise

        target = self.folder / f"{task.replace(' ', '-')}-{prefix}"
        parts = tuple(
            Part("other", output.digest, output.size, output.name.removeprefix(f"{prefix}/"))
            for output in self.inputs[task].files
            if output.name.startswith(f"{prefix}/")
        )
        materialise(self.store, Manifest(parts=parts), target)
        return target

    def moved(self, fraction: float, text: str = "", report: Progress | None = None) -> None:
        """Tell of progress, `fraction` in [0, 1]."""
        self.on_event(StepMoves(self.task.name, fraction, text, report))

    def note(self, text: str) -> None:
        """Tell something that the user should know."""
        self.on_event(Note(self.task.name, text))


@dataclass(frozen=True)
class Step:
    """One kind of task. `rooms` and `packages` are the code that its results depend on."""

    name: str
    tasks: Callable[[RecipeFile, Store], Iterable[Task]]
    run: Callable[[Work], Result]
    rooms: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    order: int = 50
    """Among tasks that could run at the same time, the lowest goes first."""
    resumable: bool = False
    """Whether its folder is kept when it is stopped, to go on from."""
    holds: Callable[[Store, Result], bool] = lambda store, result: True
    """Whether what was done before still stands."""


@cache
def steps() -> dict[str, Step]:
    """All steps by name: the modules of steps/."""
    from freehold.recipes import steps as package

    names = [f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    found = [importlib.import_module(name).STEP for name in names]
    return {step.name: step for step in found}
