"""Files that only large libraries read, read in a process of its own: bounded memory and time, nothing written.

Each reader is a script beside this file. It is run with a path, writes a JSON value a line, and may die of what it
reads: then the file cannot be read, and nothing else has happened.
"""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import msgspec

from freehold.core.errors import BadData, BadInput, MissingExtra, TooLarge
from freehold.formats.reading import shown

MAX_OUTPUT = 1 << 30
"""Bytes that a script may write."""
_PIECE = 1 << 20


def values(script: str, path: Path, what: str, package: str) -> list[Any]:
    """What a script says of the file, a value a line. Raises BadData, MissingExtra, TooLarge."""
    if find_spec(package) is None:
        raise MissingExtra(f"{path} is a {what}: {package} reads it", "Run: pip install 'freehold[data]'")
    command = [sys.executable, "-I", "-X", "utf8", str(Path(__file__).with_name(f"{script}.py")), str(path.absolute())]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env={}
        ) as child:
            said = _all(child)
        if said is None:
            raise TooLarge(f"{path} holds more than {MAX_OUTPUT:,} bytes of text", "Split it")
        if child.returncode:
            raise unreadable(path, what, _last(errors))
    try:
        return [msgspec.json.decode(line) for line in said.split(b"\n") if line]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unreadable(path, what, str(error)) from error


def unreadable(path: Path, what: str, reason: str) -> BadInput:
    """The error for a file that its reader cannot read."""
    return BadData(f"{path} is no readable {what}: {shown(reason, 300)}", "Save it again, or give CSV or plain text")


def _all(child: "subprocess.Popen[bytes]") -> bytes | None:
    """What the script writes; None when it does not end."""
    pieces, size = [], 0
    while child.stdout is not None and (piece := child.stdout.read(_PIECE)):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_OUTPUT:
            child.kill()
            return None
    return b"".join(pieces)


def _last(errors: IO[bytes]) -> str:
    """The last thing that it said."""
    errors.seek(max(0, errors.seek(0, 2) - 4000))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "its reader was stopped, for it takes too much memory or time"
