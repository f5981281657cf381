"""Locks on folders that end with their holder, however it ends."""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from freehold.core.errors import Conflict
from freehold.formats.atomic import disk_errors

_LOCK = "lock"


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, made where there is none, for this process alone. Raises Conflict naming the holder."""
    descriptor = _opened(folder, what)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # A child that is just starting may hold a copy of the descriptor; the lock ends for all of them.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def sweep(folder: Path, *, dry_run: bool = False) -> int:
    """Remove the folders in `folder` that no living process holds. The bytes of their files.

    Whatever else lies there is somebody's own.
    """
    freed = 0
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_symlink() or not entry.is_dir():
            continue
        with suppress(Conflict), locked(entry, entry.name):
            freed += size_of(entry)
            if not dry_run:
                shutil.rmtree(entry, ignore_errors=True)
    return freed


def size_of(folder: Path) -> int:
    """Bytes of a folder's files, which may come and go."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def _opened(folder: Path, what: str) -> int:
    """The lock file, locked."""
    while True:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # swept between the two
        if not _taken(descriptor):
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise Conflict(f"{what} is being made already, by process {holder}", "Wait for it, or stop it first")
        if _is(descriptor, folder / _LOCK):
            return descriptor
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(descriptor: int, path: Path) -> bool:
    """Whether the file that is open still has this name: a sweep may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
