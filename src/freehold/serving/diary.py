"""A tuning job on the disk: what it is, its recipe and its data, and a diary of what happened."""

import threading
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from freehold.formats.atomic import disk_errors
from freehold.recipes.child import Score
from freehold.serving.described import Described, linked
from freehold.serving.jobs import Fault

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
Level = Literal["info", "warn", "error"]
ENDED = frozenset({"succeeded", "failed", "cancelled"})
RECIPE, TRAINING, VALIDATION = "recipe.toml", "training_file.jsonl", "validation_file.jsonl"
"""Its files. The recipe names the others."""


class Tuning(msgspec.Struct, kw_only=True):
    """One job."""

    id: str
    kind: str
    """Which dialect's it is."""
    created: float
    model: str
    """The name that the result gets."""
    status: Status = "validating_files"
    checked: bool = False
    """Whether its data was found to be good."""
    finished: float | None = None
    ends: float | None = None
    """About when training will have ended, as far as that is known."""
    tokens: int | None = None
    """That were read in training, once it has succeeded."""
    steps: int = 0
    loss: float | None = None
    held_out_loss: float | None = None
    """The last of each, once it has succeeded."""
    scores: tuple[Score, ...] = ()
    results: str = ""
    """The id of the file with its measurements."""
    fault: Fault | None = None
    """Why it failed."""
    about: dict[str, Any] = {}
    """What its dialect remembers about it."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    def turn(self, status: Status) -> None:
        """Come to a status, now."""
        self.status = status
        self.ends = None
        if self.ended:
            self.finished = time.time()


class Metrics(msgspec.Struct, frozen=True):
    """What was measured after a step. Losses are nats per token that counts."""

    step: int
    steps: int
    loss: float | None = None
    held_out_loss: float | None = None


class Said(msgspec.Struct, frozen=True):
    """An entry of the diary."""

    number: int
    at: float
    level: Level
    text: str
    metrics: Metrics | None = None


class Diary:
    """Entries, one a line, each written at once. A line that a kill tore is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._next: int | None = None

    def add(self, level: Level, text: str, metrics: Metrics | None = None) -> None:
        """Write an entry. Raises DiskFull."""
        with self._lock, disk_errors(self._path), self._path.open("ab") as file:
            if self._next is None:
                found, size = self._read()
                file.truncate(size)
                self._next = len(found)
            said = Said(self._next, time.time(), level, text, metrics)
            file.write(msgspec.json.encode(said) + b"\n")
            self._next += 1

    def read(self) -> list[Said]:
        """All entries, the oldest first."""
        with self._lock:
            return self._read()[0]

    def measured(self) -> tuple[set[int], set[int]]:
        """The steps whose loss is told of, and those after which the held-out loss is."""
        metrics = [said.metrics for said in self.read() if said.metrics is not None]
        return (
            {each.step for each in metrics if each.loss is not None},
            {each.step for each in metrics if each.held_out_loss is not None},
        )

    def _read(self) -> tuple[list[Said], int]:
        """What is there, and the bytes of what is whole."""
        found: list[Said] = []
        size = 0
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return found, size
        for line in lines:
            try:
                said = msgspec.json.decode(line, type=Said) if line.endswith(b"\n") else None
            except (msgspec.DecodeError, UnicodeDecodeError):
                said = None
            if said is None:
                break
            found.append(said)
            size += len(line)
        return found, size


class Room(Described[Tuning]):
    """The folder of one job. Raises DiskFull where it writes."""

    def __init__(self, root: Path, identifier: str) -> None:
        super().__init__(root, identifier, Tuning)
        self.recipe = self.path / RECIPE
        self.diary = Diary(self.path / "diary.jsonl")

    def create(self, job: Tuning, recipe: bytes, training: Path, validation: Path | None) -> None:
        """Write a new job."""

        def fill() -> None:
            self.recipe.write_bytes(recipe)
            linked(training, self.path / TRAINING)
            if validation is not None:
                linked(validation, self.path / VALIDATION)

        self.begin(job, fill)

    def finish(self) -> None:
        """Remove what is of no use after the end."""
        with disk_errors(self.path):
            for name in (TRAINING, VALIDATION):
                (self.path / name).unlink(missing_ok=True)
