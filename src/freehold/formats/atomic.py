"""Files that are either whole or not there, and disk errors in words."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freehold.core.errors import BadInput, DiskFull
from freehold.formats.reading import shown

LARGER = "Use a disk that takes larger files (with FAT32 none is over 4 GB), or raise the limit of 'ulimit -f'"
"""What to do where a file may not grow any further."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_ODD = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def size_text(count: int) -> str:
    """A number of bytes for people: 3.2 GB."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


@contextmanager
def disk_errors(path: Path, needed: int = 0) -> Iterator[None]:
    """Translate what the operating system says about writing under `path`. Raises DiskFull and BadInput."""
    try:
        yield
    except OSError as error:
        if (full := no_room(error.errno, path, needed)) is not None:
            raise full from error
        if error.errno in _REFUSED:
            reason = f"cannot write {shown(path, 400)}: {error.strerror}"
            raise BadInput(reason, "Check the permissions and the health of the disk") from error
        if error.errno in _ODD:
            raise BadInput(f"cannot write {shown(path, 400)}: {error.strerror}", "Choose another place") from error
        raise


def no_room(number: int | None, path: Path, needed: int = 0) -> DiskFull | None:
    """The error for what the operating system calls a lack of room under `path`; None for another `number` of its."""
    if number == errno.EFBIG:
        return DiskFull(f"no file may be so large on the disk that holds {shown(path, 400)}", LARGER)
    return disk_full(path, needed) if number in _FULL else None


def disk_full(path: Path, needed: int = 0) -> DiskFull:
    """The error for a file system without `needed` free bytes."""
    wanted = f": {size_text(needed)} needed" if needed else ""
    free = ""
    if needed:
        try:
            status = os.statvfs(path if path.exists() else path.parent)
            free = f", {size_text(status.f_bavail * status.f_frsize)} free"
        except OSError:
            free = ""
    remedy = "Free some space ('freehold prune' removes what no model uses) and try again"
    return DiskFull(f"the disk that holds {shown(path, 400)} is full{wanted}{free}", remedy)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`. What the block writes there takes `path`'s place when the block ends well.

    After an error nothing is left behind and `path` is as it was. Raises DiskFull and BadInput.
    """
    begins = os.fsdecode(os.fsencode(path.name)[:100])  # file systems count bytes, not characters
    temporary = path.with_name(f".{begins}.{secrets.token_hex(8)}.tmp")
    with disk_errors(path):
        try:
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
