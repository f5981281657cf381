"""What processes hold in memory, each page counted once. Linux tells it; elsewhere it is 0."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_FIRST, _LAST = 0.2, 10.0
"""Seconds between two looks at each page: the second is twice as long after the first, and so on up to the last."""


class Sizes(NamedTuple):
    """Bytes."""

    private: int
    """That no file backs."""
    resident: int


_NOTHING = Sizes(0, 0)


class Held:
    """Some processes' memory. The kernel tells quickly what each of them sees, and slowly what they see together.

    So the second, which changes little once they have settled, is asked for seldom, and taken off the first.
    """

    def __init__(self, *pids: int) -> None:
        self._pids: tuple[int, ...] = pids
        self._settled: tuple[int, ...] = ()
        """Whose pages `_twice` is of: somebody else may add processes while this is asked."""
        self._twice = _NOTHING
        self._next, self._pause = 0.0, _FIRST

    def add(self, pid: int) -> None:
        """One more process."""
        self.only((*self._pids, pid))

    def only(self, pids: Iterable[int]) -> None:
        """These processes."""
        self._pids = tuple(pids)

    def now(self) -> Sizes:
        """What they hold. A process that has ended holds nothing."""
        pids = self._pids
        seen = _sum(map(_seen, pids))
        if len(pids) < 2:
            return seen
        if pids != self._settled:
            self._settled, self._next, self._pause = pids, 0.0, _FIRST
        if time.monotonic() > self._next:
            own = _sum(map(_own, pids))
            self._twice = Sizes(seen.private - own.private, seen.resident - own.resident)
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LAST)
        return Sizes(seen.private - self._twice.private, seen.resident - self._twice.resident)


def _sum(sizes: Iterable[Sizes]) -> Sizes:
    found = list(sizes)
    return Sizes(sum(each.private for each in found), sum(each.resident for each in found))


def _seen(pid: int) -> Sizes:
    """All pages that a process sees."""
    found = status(pid)
    return Sizes(found.get("RssAnon", 0) + found.get("RssShmem", 0), found.get("VmRSS", 0))


def _own(pid: int) -> Sizes:
    """Its share of them: of a page that two see each has half."""
    found = _table(_PROC / str(pid) / "smaps_rollup")
    return Sizes(found.get("Pss_Anon", 0) + found.get("Pss_Shmem", 0), found.get("Pss", 0))


def status(pid: int | None = None) -> dict[str, int]:
    """The kernel's account of a process, of this one where none is named, in bytes; empty where there is none."""
    return _table(_PROC / ("self" if pid is None else str(pid)) / "status")


def _table(path: Path) -> dict[str, int]:
    with suppress(OSError):
        lines = path.read_text("ascii", "replace").splitlines()
        pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
        return {key: int(value.split()[0]) << 10 for key, value in pairs}
    return {}
