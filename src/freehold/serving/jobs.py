"""A batch on the disk: what it is, the rows it was given, and a journal of those that are answered."""

import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from freehold.core.errors import Interrupted, TooLarge
from freehold.core.event import Usage
from freehold.formats.atomic import disk_errors
from freehold.serving.described import Described, linked

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
Fate = Literal["done", "failed", "left"]
"""What became of a row: answered, refused or failed, or not asked before the batch ended."""
ENDED = frozenset({"failed", "completed", "expired", "cancelled"})
MAX_ROWS = 100_000


class Fault(msgspec.Struct, frozen=True):
    """Why a batch was not begun."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Job(msgspec.Struct, kw_only=True):
    """One batch."""

    id: str
    kind: str
    """Which dialect's it is."""
    created: float
    expires: float
    status: Status = "validating"
    at: dict[str, float] = {}
    """When it came to each status."""
    end: Literal["completed", "expired", "cancelled"] = "completed"
    """The status in which it is to end."""
    total: int = 0
    done: int = 0
    failed: int = 0
    left: int = 0
    usage: Usage = Usage()
    faults: list[Fault] = []
    about: dict[str, Any] = {}
    """What its dialect remembers about it."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    def turn(self, status: Status) -> None:
        """Come to a status, now."""
        self.status = status
        self.at[status] = time.time()


class Noted(msgspec.Struct, frozen=True):
    """A row that is done with, as the journal holds it."""

    row: int
    fate: Fate
    usage: Usage
    record: msgspec.Raw


class Folder(Described[Job]):
    """The folder of one batch. Raises DiskFull where it writes."""

    def __init__(self, root: Path, identifier: str) -> None:
        super().__init__(root, identifier, Job)
        self.input = self.path / "input.jsonl"
        self.results = self.path / "results.jsonl"
        self.journal = self.path / "journal.jsonl"

    def create(self, job: Job, rows: Path | Iterable[bytes]) -> None:
        """Write a new batch: its rows are those of a file, or these lines. What describes it is written last."""

        def fill() -> None:
            if isinstance(rows, Path):
                linked(rows, self.input)
            else:
                with self.input.open("xb") as file:
                    file.writelines(row + b"\n" for row in rows)
                    file.flush()
                    os.fsync(file.fileno())

        self.begin(job, fill)

    def rows(self, longest: int) -> Iterator[tuple[int, bytes]]:
        """The rows with the numbers of their lines. Raises TooLarge for a line that is longer than may be."""
        return rows(self.input, longest)

    def finish(self) -> None:
        """Remove what is of no use after the end."""
        with disk_errors(self.path):
            self.input.unlink(missing_ok=True)
            self.journal.unlink(missing_ok=True)


def rows(path: Path, longest: int) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold anything, with their numbers. Raises TooLarge for a line longer than may be."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(longest + 2):
            number += 1
            bare = line.strip()
            if len(line) > longest + 1:
                raise TooLarge(f"line {number} is longer than {longest} bytes", "Send shorter rows")
            if bare:
                yield number, bare


class Journal:
    """The answers so far, one a line, each on the disk before it counts. A line that a kill tore is not one."""

    def __init__(self, path: Path) -> None:
        self.usage = Usage()
        self.count: Counter[Fate] = Counter()
        self._path = path
        self._found: dict[int, tuple[int, Fate]] = {}
        """Row: where in the file, and what became of it."""
        self._lock = threading.Lock()
        with disk_errors(path):
            self._file = path.open("ab", buffering=0)
            self._size = self._read()
            self._file.truncate(self._size)

    def __contains__(self, row: int) -> bool:
        return row in self._found

    def add(self, noted: Noted, *, sync: bool = True) -> None:
        """Write an answer down, unless the row has one. Raises DiskFull, and then it is not there."""
        line = memoryview(msgspec.json.encode(noted) + b"\n")
        with self._lock:
            if self._file.closed:
                raise Interrupted("the server ends", "It goes on when it is started again")
            if noted.row in self:
                return
            try:
                with disk_errors(self._path, len(line)):
                    rest = line
                    while rest:
                        rest = rest[self._file.write(rest) :]
                    if sync:
                        os.fsync(self._file.fileno())
            except BaseException:
                self._file.truncate(self._size)
                raise
            self._note(noted, self._size)
            self._size += len(line)

    def records(self, *fates: Fate) -> Iterator[bytes]:
        """The answers of these fates as JSON, in the order of the rows."""
        with self._path.open("rb") as file:
            for row in sorted(self._found):
                place, fate = self._found[row]
                if fate in fates:
                    file.seek(place)
                    yield bytes(msgspec.json.decode(file.readline(), type=Noted).record)

    def close(self) -> None:
        """No more is added."""
        with self._lock:
            self._file.close()

    def _read(self) -> int:
        """Learn what is there; the size of what is whole."""
        size = 0
        with self._path.open("rb") as file:
            for line in file:
                try:
                    noted = msgspec.json.decode(line, type=Noted) if line.endswith(b"\n") else None
                except (msgspec.DecodeError, UnicodeDecodeError):
                    noted = None
                if noted is None:
                    break
                if noted.row not in self:
                    self._note(noted, size)
                size += len(line)
        return size

    def _note(self, noted: Noted, place: int) -> None:
        self._found[noted.row] = place, noted.fate
        self.count[noted.fate] += 1
        self.usage += noted.usage


def new_id(prefix: str) -> str:
    """A name for a batch that nobody can guess."""
    return f"{prefix}_{secrets.token_hex(12)}"
