"""Progress of several files at once: a bar for each in a terminal, plain lines otherwise."""

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from freehold.cli._output import Bar, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bars:
    """Told of each file's name, bytes done and size, as often as one likes."""

    def __init__(self, *, quiet: bool = False, least: int = 0) -> None:
        self._quiet, self._least = quiet, least
        """Files below `least` bytes are not worth a bar."""
        self._plain: dict[str, Bar] = {}
        self._tasks: dict[str, TaskID] = {}
        self._stack = ExitStack()
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, name: str, done: int, size: int) -> None:
        """This much of a file is there."""
        if self._quiet or size < self._least:
            return
        label = printable(name)
        if sys.stderr.isatty():
            self._live(label, done, size)
        else:
            self._plain.setdefault(label, Bar(label))(done, size)

    def _live(self, label: str, done: int, size: int) -> None:
        if self._progress is None:
            self._progress = self._stack.enter_context(_progress())
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=size)
        self._progress.update(self._tasks[label], completed=done)


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
