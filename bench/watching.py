"""Another process from outside: the lines that it says, when it says them, and the memory that it takes."""

import contextlib
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from freehold.core.resident import Held

_PERIOD = 0.02
"""Seconds between two looks."""
_CHILDREN = 25
"""Looks between two searches for children, which go through all processes of the machine."""


class Line(NamedTuple):
    """What a process said."""

    at: float
    """When, by this process's clock."""
    text: str


class Watched(NamedTuple):
    """A process from its start to its end."""

    lines: list[Line]
    private: float
    """The most MB that no file backs, of it and its children together, pages that they share counted once."""
    rss: float
    """The most resident MB, likewise."""


class Ended(Exception):
    """It ended with another code than 0."""


def watched(command: list[str], environment: dict[str, str], folder: Path | None = None) -> Watched:
    """Run a command in `folder`. Raises Ended with what it said last."""
    with tempfile.TemporaryFile("w+", errors="replace") as err:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, env=environment, cwd=folder, text=True)
        lines: list[Line] = []
        assert child.stdout is not None
        reader = threading.Thread(target=_read, args=(child.stdout, lines))
        reader.start()
        whole, held, private, rss = psutil.Process(child.pid), Held(child.pid), 0, 0
        looks = 0
        while child.poll() is None:
            if looks % _CHILDREN == 0:
                held.only(_family(whole))
            now, looks = held.now(), looks + 1
            private, rss = max(private, now.private), max(rss, now.resident)
            time.sleep(_PERIOD)
        reader.join()
        if child.returncode:
            err.seek(0)
            last = lines[-1].text if lines else ""
            raise Ended(f"{' '.join(map(str, command))} ended with {child.returncode}: {last}{err.read()[-2000:]}")
        return Watched(lines, private / (1 << 20), rss / (1 << 20))


def _read(stream: IO[str], lines: list[Line]) -> None:
    with stream:
        lines.extend(Line(time.monotonic(), text) for text in stream)


def _family(whole: psutil.Process) -> list[int]:
    """A process and all below it."""
    with contextlib.suppress(psutil.Error):
        return [whole.pid, *(child.pid for child in whole.children(recursive=True))]
    return []
