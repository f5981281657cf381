"""A real terminal: what is written to it comes out of its other end, as a person would see it."""

import os
import pty
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Seen:
    """What reached the terminal so far."""

    def __init__(self) -> None:
        self.raw = ""

    @property
    def text(self) -> str:
        """Without what moves and colours."""
        return _ESCAPES.sub("", self.raw)


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 160) -> Iterator[Seen]:
    """Stderr is a terminal in here; all that it was told is in what is yielded, when this ends."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    seen = Seen()

    def listen() -> None:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                return
            if not piece:
                return
            seen.raw += piece.decode("utf-8", "replace")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
            patch.setattr("sys.stderr", stream)
            yield seen
        listener.join(10)
    finally:
        os.close(ours)
