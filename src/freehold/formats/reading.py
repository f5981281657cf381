"""What every file reader here shares: opening nothing but regular files, and saying what is wrong in one line."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from freehold.core.errors import BadInput, BadModelFile, NotFound


def shown(text: object, limit: int = 120) -> str:
    """`text` as it may be printed: control characters escaped, cut to `limit` characters."""
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text)
    )
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def bad_file(path: Path, reason: str, remedy: str = "Fetch or make the file again") -> BadModelFile:
    """The error for a model file that cannot be used."""
    return BadModelFile(f"{shown(path, 400)}: {shown(reason, 400)}", remedy)


def files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files in a folder that others work in: what goes while it is looked for is passed over."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status


@contextmanager
def regular_file(path: Path) -> Iterator[tuple[FileIO, int]]:
    """An open regular file and its size in bytes. Raises NotFound, and BadInput for a pipe, device or folder."""
    # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {shown(path, 400)}", "Check the path") from error
    except (OSError, ValueError) as error:
        raise BadInput(
            f"cannot open {shown(path, 400)}: {shown(error)}", "Check the path and its permissions"
        ) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BadInput(f"not a regular file: {shown(path, 400)}", "Name a file, not a folder, pipe or device")
    with FileIO(descriptor, "rb") as file:
        yield file, status.st_size
