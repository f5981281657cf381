"""A run that outlives its terminal: it goes on when that closes, or leaves it at once with --detach."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, NoReturn, Self, TextIO

import typer

from freehold.cli._output import line
from freehold.core.errors import Unsupported
from freehold.recipes.events import RunBegins
from freehold.recipes.records import LOG

Detach = Annotated[
    bool, typer.Option("--detach", help="Go on in the background; 'freehold runs' shows, stops and resumes it.")
]


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


# asyncio knows its own way with Python's handler of SIGINT, and with no other.
_HANDLERS: dict[signal.Signals, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: _interrupt,
    signal.SIGHUP: signal.SIG_IGN,
}


class Lasting:
    """While it is open, the end of the terminal ends nothing: what would be shown goes to the run's log from then on.

    SIGHUP is ignored rather than handled, since children inherit that: the trainer and the workers go on too. SIGINT
    and SIGTERM stop the run as Ctrl-C does, even where a shell had its background jobs ignore them.
    """

    def __init__(self, *, detach: bool = False) -> None:
        self.left = False
        """Whether nobody looks any more."""
        self.shown = not detach
        """Whether somebody looks at first."""
        self._detach = detach
        self._terminals: list[int] = []
        self._log: Path | None = None
        self._parent = -1
        """The pipe to the process that the user started, which waits for the run's name."""
        self._before: dict[int, Any] = {}
        self._streams = sys.stdout, sys.stderr

    def __enter__(self) -> Self:
        if self._detach:
            self._parent = _forked()
        self._terminals = [number for number in (0, 1, 2) if self._detach or os.isatty(number)]
        self._before = {number: signal.signal(number, handler) for number, handler in _HANDLERS.items()}
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Stream(stream, self._leave) for stream in self._streams)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.left:
            sys.stdout, sys.stderr = self._streams
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def begins(self, event: RunBegins) -> None:
        """From here on there is a log to go to. A detached run goes to it, and tells its parent so."""
        self._log = event.folder / LOG
        if self._parent >= 0:
            self._leave()
            os.write(self._parent, event.run.encode())
            os.close(self._parent)
            self._parent = -1

    def _leave(self) -> None:
        if self.left:
            return
        self.left = True
        log = os.open(self._log or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number in self._terminals:
            os.dup2(log if number else nothing, number)
        os.close(log)
        os.close(nothing)


class _Stream:
    """A text stream that leaves the terminal when that is gone, and then writes where it is told."""

    def __init__(self, stream: TextIO, leave: Callable[[], None]) -> None:
        self._stream, self._leave = stream, leave

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, whatever became of the terminal."""
        self._lasting(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, whatever became of the terminal."""
        self._lasting(self._stream.flush)

    def _lasting(self, do: Callable[[], object]) -> None:
        try:
            do()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._leave()
            # The buffer still has what the terminal did not take; it goes to the log with the next flush.


def _forked() -> int:
    """Go on in a child without a terminal, and get its end of the pipe; this process waits until the run has a name.

    Must be called before anything starts a thread.
    """
    if not hasattr(os, "fork"):
        raise Unsupported("this system cannot detach a process", "Run it without --detach, in a terminal of its own")
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        _wait(child, reading)
    os.close(reading)
    os.setsid()
    return writing


def _wait(child: int, reading: int) -> NoReturn:
    """Say how to watch the run, or, where it ended before it began, end as it did: it has said why."""
    with open(reading, encoding="utf-8") as pipe:
        run = pipe.read()
    if not run:
        _, status = os.waitpid(child, 0)
        raise typer.Exit(os.waitstatus_to_exitcode(status))
    line(f"{run} runs in the background (process {child})")
    line(f"  freehold runs show {run}     how far it is")
    line(f"  freehold runs log {run}      what it says; --follow goes on with it")
    line(f"  freehold runs stop {run}     stop it, to be gone on with")
    raise typer.Exit(0)
