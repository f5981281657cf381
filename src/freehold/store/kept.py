"""Kept: texts that a server remembers for later requests, bounded in bytes and number; the oldest go first."""

import os
import re
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from freehold.core.errors import Damaged, FreeholdError, NotFound
from freehold.formats.atomic import disk_errors, replacing, sync_folder

MOST = 10_000
"""Texts that are kept, however short they are."""
_KEY = re.compile(r"[a-z0-9_]{1,100}")
_SUFFIX = ".z"


class Kept:
    """Files in a folder that only its owner can open: each is whole or not there, however the process ends.

    For one process at a time; its threads may all use it. Nothing is made on the disk before the first `put`.
    """

    def __init__(self, folder: Path, most_bytes: int, most: int = MOST) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._most = most
        self._lock = threading.Lock()
        self._sizes: dict[str, int] | None = None
        """Bytes of each text, the oldest first; None until the folder was looked at."""

    def adopt(self, most_bytes: int) -> None:
        """Keep so much from now on; what is too much goes when the next text comes."""
        self._most_bytes = most_bytes

    def put(self, key: str, text: bytes) -> bool:
        """Keep a text, on the disk when this returns. Whether there can be room for it. Raises DiskFull, BadInput."""
        data = zlib.compress(text, 1)  # a conversation repeats itself
        if len(data) > self._most_bytes:
            return False
        with self._lock:
            sizes = self._known()
            sizes.pop(key, None)
            for oldest in self._too_many(sizes, len(data)):
                del sizes[oldest]
                self._path(oldest).unlink(missing_ok=True)
            sizes[key] = len(data)
        try:
            self._write(key, data)
        except (FreeholdError, OSError):
            with self._lock:
                sizes.pop(key, None)
            raise
        with self._lock:
            if key not in sizes:  # it had to make room, or was removed, while it was written
                self._path(key).unlink(missing_ok=True)
        return True

    def _write(self, key: str, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)  # somebody may have removed it to have all forgotten
        with replacing(self._path(key)) as temporary:
            temporary.touch(0o600, exist_ok=False)
            temporary.write_bytes(data)

    def get(self, key: str) -> bytes:
        """The text of this key. Raises NotFound and Damaged."""
        try:
            return zlib.decompress(self._path(key).read_bytes())
        except FileNotFoundError as error:
            raise _unknown(key) from error
        except zlib.error as error:
            raise Damaged(f"what was kept as {key} cannot be read", f"Remove {self._path(key)}") from error

    def remove(self, key: str) -> None:
        """Forget a text, for good when this returns. Raises NotFound."""
        with self._lock:
            self._known().pop(key, None)
            try:
                self._path(key).unlink()
            except FileNotFoundError as error:
                raise _unknown(key) from error
            sync_folder(self._folder)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise _unknown(key)
        return self._folder / f"{key}{_SUFFIX}"

    def _known(self) -> dict[str, int]:
        """What is there, read from the folder once."""
        if self._sizes is None:
            with disk_errors(self._folder):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._folder.chmod(0o700)
                self._sizes = dict(_found(self._folder))
        return self._sizes

    def _too_many(self, sizes: dict[str, int], more: int) -> list[str]:
        """The oldest that have to go before `more` bytes come."""
        count, total = len(sizes) + 1, sum(sizes.values()) + more
        going = []
        for key, size in sizes.items():
            if count <= self._most and total <= self._most_bytes:
                break
            going.append(key)
            count, total = count - 1, total - size
        return going


def _found(folder: Path) -> Iterator[tuple[str, int]]:
    """The texts in a folder by age. What a kill left half written goes."""
    entries = []
    with os.scandir(folder) as scanned:
        for entry in scanned:
            if entry.name.startswith("."):
                Path(entry.path).unlink(missing_ok=True)
            elif entry.name.endswith(_SUFFIX):
                status = entry.stat()
                entries.append((status.st_mtime_ns, entry.name.removesuffix(_SUFFIX), status.st_size))
    yield from ((key, size) for _, key, size in sorted(entries))


def _unknown(key: str) -> NotFound:
    return NotFound(f"nothing is kept as {key[:120]!r}", "It was never kept, was removed, or made room for newer ones")
