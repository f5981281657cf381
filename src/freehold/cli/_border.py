"""The one border between errors and people: every error leaves as one line on stderr and an exit code."""

import errno
import io
import os
import re
import sys
from types import TracebackType
from typing import Self

import typer

from freehold.core.errors import BadInput, DiskFull, FreeholdError, Interrupted, NotEnoughMemory
from freehold.formats.atomic import LARGER

_WORD = re.compile(r"[^\s\"']+")
_USERS_PATH = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


class Border:
    """A context that swallows the errors it can explain, says them, and keeps their exit code."""

    def __init__(self) -> None:
        self.exit_code = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is None:
            return True
        if isinstance(error, BrokenPipeError):
            self.exit_code = _close_quietly()
            return True
        if isinstance(error, typer.Exit):
            self.exit_code = error.exit_code
            return True
        known = translate(error)
        if known is None or (os.environ.get("FREEHOLD_DEBUG") and not isinstance(error, KeyboardInterrupt)):
            return False
        self.exit_code = known.exit_code
        say(known)
        return True


def settle_process() -> None:
    """What each of our commands begins with: errors that nobody foresaw are one line too, and streams take any text."""
    if not os.environ.get("FREEHOLD_DEBUG"):
        sys.excepthook = _last_words
    _settle_streams()


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For an error that nobody foresaw."""
    text = " ".join(f"{kind.__name__}: {error}".split())
    print(f"error: unexpected {text}. Set FREEHOLD_DEBUG=1 for details, and report it", file=sys.stderr)  # noqa: T201


def _settle_streams() -> None:
    """Have all three streams be there, and take any text: what cannot be written in a terminal's letters is spelt.

    A script may close one (`>&-`), and a file's name may be no text at all.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # The lowest free descriptor is the closed one: no file of ours will be opened there, and written over.
            nothing = io.FileIO(os.open(os.devnull, os.O_RDWR), "r+", closefd=False)
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(nothing) if number else io.BufferedReader(nothing)))
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(error: FreeholdError) -> None:
    """Print an error as its one line."""
    line = error.line() if isinstance(error, Interrupted) else f"error: {error.line()}"
    print(_visible(line), file=sys.stderr)  # noqa: T201


def translate(error: BaseException) -> FreeholdError | None:
    """The error in our own words, or None for one that nobody foresaw."""
    if isinstance(error, FreeholdError):
        return error
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted("interrupted; run the same command to resume")
    if isinstance(error, MemoryError):
        return NotEnoughMemory("not enough memory to go on", "Close other programs or use a smaller model")
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, UnicodeEncodeError):
        return _no_text(error)
    if isinstance(error, OSError):
        return _from_os(error)
    return None


def _usage(error: typer.TyperException) -> FreeholdError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "freehold"
    return BadInput(error.format_message().rstrip(". "), f"See '{path} --help'")


def _no_text(error: UnicodeEncodeError) -> FreeholdError | None:
    """For a word of the command, or a file's name, whose bytes are no UTF-8: nothing else holds a surrogate."""
    if error.reason != "surrogates not allowed":
        return None
    word = next(each.group() for each in _WORD.finditer(error.object) if each.end() > error.start)
    return BadInput(f"{word[:80]!r} is not UTF-8", "Write it in UTF-8, or give the file another name")


def _from_os(error: OSError) -> FreeholdError | None:
    where = f" on the file system of {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left{where}", "Free some space, or set FREEHOLD_HOME to a larger disk")
    if error.errno == errno.EFBIG:
        return DiskFull(f"no file may be so large{where}", LARGER)
    if error.errno == errno.ENOMEM:
        return NotEnoughMemory("not enough memory to go on", "Close other programs or use a smaller model")
    if isinstance(error, _USERS_PATH) and error.filename is not None:
        return BadInput(f"{error.filename}: {error.strerror}", "Check the path and its permissions")
    return None


def _close_quietly() -> int:
    """Whoever read our output has gone; keep the interpreter's last flush from complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
