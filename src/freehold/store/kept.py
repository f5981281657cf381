"""Kept: texts that a server remembers for later requests, bounded in bytes and number; the oldest go first."""

import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from freehold.core.errors import Damaged, FreeholdError, NotFound, TooLarge
from freehold.formats.atomic import disk_errors, replacing, sync_folder

MOST = 10_000
"""Texts that are kept, however short they are."""
_KEY = re.compile(r"[a-z0-9_]{1,100}")
_SUFFIX = ".z"


class _Known(NamedTuple):
    """What is remembered of a text: when it was put here, in nanoseconds since 1970, and its bytes on the disk."""

    age: int
    size: int


class Kept:
    """Files in a folder that only its owner can open: each is whole or not there, however the process ends.

    For one process at a time; its threads may all use it. Nothing is made on the disk before the first `put`.
    """

    def __init__(self, folder: Path, most_bytes: int, most: int = MOST) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._most = most
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._texts: dict[str, _Known] | None = None
        """None until the folder was looked at."""

    def adopt(self, most_bytes: int) -> None:
        """Keep so much from now on; what is too much goes when the next text comes."""
        self._most_bytes = most_bytes

    def put(self, key: str, text: bytes, *, age: int | None = None) -> bool:
        """Keep a text, on the disk when this returns. Whether there can be room for it. Raises DiskFull, BadInput.

        It is the newest unless its `age` is given, in nanoseconds since 1970.
        """
        data = zlib.compress(text, 1)  # a conversation repeats itself
        if len(data) > self._most_bytes:
            return False
        with self._lock:
            known = self._known()
            known.pop(key, None)
            for oldest in self._too_many(known, len(data)):
                del known[oldest]
                self._path(oldest).unlink(missing_ok=True)
            if age is None:
                age = max(time.time_ns(), 1 + max((each.age for each in known.values()), default=0))
            known[key] = _Known(age, len(data))
        try:
            self._write(key, data, age)
        except (FreeholdError, OSError):
            with self._lock:
                known.pop(key, None)
            raise
        with self._lock:
            if key not in known:  # it had to make room, or was removed, while it was written
                self._path(key).unlink(missing_ok=True)
        return True

    def _write(self, key: str, data: bytes, age: int) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)  # somebody may have removed it to have all forgotten
        with replacing(self._path(key)) as temporary:
            temporary.touch(0o600, exist_ok=False)
            temporary.write_bytes(data)
            os.utime(temporary, ns=(age, age))

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin so, those of the oldest texts first."""
        with self._lock:
            known = self._known()
            return sorted((key for key in known if key.startswith(prefix)), key=lambda key: known[key].age)

    def change(self, key: str, made: Callable[[bytes], bytes], *, renewed: bool = True) -> None:
        """Put what `made` makes of a text in its place; no other change comes between. Unless `renewed` its age stays.

        Raises NotFound, Damaged, TooLarge where there can be no room for it, DiskFull, and what `made` raises.
        """
        with self._changing:
            text = made(self.get(key))
            with self._lock:
                before = self._known().get(key)
            if not self.put(key, text, age=before.age if before and not renewed else None):
                raise TooLarge(f"what is kept as {key} has become too large", "Begin another")

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

    def _known(self) -> dict[str, _Known]:
        """What is there, read from the folder once."""
        if self._texts is None:
            with disk_errors(self._folder):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._folder.chmod(0o700)
                self._texts = dict(_found(self._folder))
        return self._texts

    def _too_many(self, known: dict[str, _Known], more: int) -> list[str]:
        """The oldest that have to go before `more` bytes come."""
        count, total = len(known) + 1, sum(each.size for each in known.values()) + more
        going: list[str] = []
        if count <= self._most and total <= self._most_bytes:
            return going
        for key, (_, size) in sorted(known.items(), key=lambda item: item[1].age):
            if count <= self._most and total <= self._most_bytes:
                break
            going.append(key)
            count, total = count - 1, total - size
        return going


def _found(folder: Path) -> Iterator[tuple[str, _Known]]:
    """The texts in a folder. What a kill left half written goes."""
    with os.scandir(folder) as scanned:
        for entry in scanned:
            if not entry.is_file(follow_symlinks=False):
                continue  # not ours
            if entry.name.startswith("."):
                Path(entry.path).unlink(missing_ok=True)
            elif entry.name.endswith(_SUFFIX):
                status = entry.stat()
                yield entry.name.removesuffix(_SUFFIX), _Known(status.st_mtime_ns, status.st_size)


def _unknown(key: str) -> NotFound:
    return NotFound(f"nothing is kept as {key[:120]!r}", "It was never kept, was removed, or made room for newer ones")
