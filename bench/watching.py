"""Another process from outside: the lines that it says, when it says them, and the memory that it takes."""

import contextlib
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple

import psutil


class Line(NamedTuple):
    """What a process said."""

    at: float
    """When, by this process's clock."""
    text: str


class Watched(NamedTuple):
    """A process from its start to its end."""

    lines: list[Line]
    private: float
    """The most MB that no file backs, of it and its children together."""
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
        whole, private, rss = psutil.Process(child.pid), 0, 0
        while child.poll() is None:
            sizes = [_memory(each) for each in _family(whole)]
            private, rss = max(private, sum(each[0] for each in sizes)), max(rss, sum(each[1] for each in sizes))
            time.sleep(0.02)
        reader.join()
        if child.returncode:
            err.seek(0)
            last = lines[-1].text if lines else ""
            raise Ended(f"{' '.join(map(str, command))} ended with {child.returncode}: {last}{err.read()[-2000:]}")
        return Watched(lines, private / 1024, rss / 1024)


def _read(stream: IO[str], lines: list[Line]) -> None:
    with stream:
        lines.extend(Line(time.monotonic(), text) for text in stream)


def _family(whole: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    with contextlib.suppress(psutil.Error):
        return [whole, *whole.children(recursive=True)]
    return []


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Its private and its resident KB."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0, 0
    found = {
        line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.startswith("Rss") or "VmRSS" in line
    }
    return int(found.get("RssAnon", 0)), int(found.get("VmRSS", 0))
