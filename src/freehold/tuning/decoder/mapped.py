"""A file in memory, of which what has been read need not lie in this process's memory until it is read again."""

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_AROUND = 1 << 16
"""Bytes on each side of a page that Linux may map with it when it is looked at."""


class Mapped:
    """A file, mapped to be read."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._room = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def part(self, begin: int, size: int) -> NDArray[np.uint8]:
        """`size` bytes from `begin` on, read when they are looked at."""
        return np.frombuffer(self._room, np.uint8, size, begin)

    def leave(self, begin: int, size: int) -> None:
        """Give the pages of these bytes back: the system keeps them while it has room, so the next look is cheap."""
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows takes pages back by itself
            first, end = max(0, begin - _AROUND), min(begin + size + _AROUND, len(self._room))
            first -= first % mmap.PAGESIZE
            self._room.madvise(mmap.MADV_DONTNEED, first, end - first)
