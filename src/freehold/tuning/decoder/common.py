"""Matrices that processes make together, each a part, where all would make the same ones for themselves.

Processes that compute a layer's products with rows of their own need the same matrices, one after the other. Whoever
comes first begins; whoever comes later takes what is there and makes what is missing, from its own place on. So nobody
waits for a matrix: what two have begun at once both write, the same bytes. The room is a ring: whoever is ahead waits
before it writes over what another still reads.
"""

import mmap
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freehold.tuning.decoder.filling import Filling, spans

_SLOTS = 3
_PAUSE = 0.0002
"""Seconds between two looks at whether another is done with what it reads."""
_PATIENCE = 5.0
"""Seconds after which whoever does not move is no longer waited for, and all is made alone until the next turn."""
_COUNT, _NUMBER = 20, 12
"""Bits of a count of matrices within a turn, and of a matrix's own number; 31 are left for the turns."""
Counts = NDArray[np.int64]


class Turn(NamedTuple):
    """What processes are doing together: so many of them, for the so manieth time."""

    number: int
    members: int


class _Stuck(Exception):
    """Another member does not move, or has ended."""


class Common:
    """The room that all processes know which are forked after `open`. Each is a member by its own number, from 0."""

    def __init__(self) -> None:
        self._matrices = 0
        self._numbers = self._spans = 0
        self._open = False
        self._turn: Turn | None = None
        self._member = self._count = 0

    def expect(self, rows: int, columns: int) -> int:
        """The number of a matrix of that size."""
        self._numbers = max(self._numbers, rows * columns)
        self._spans = max(self._spans, len(spans(rows, columns)))
        self._matrices += 1
        return self._matrices

    def open(self, members: int) -> None:
        """Make room for so many, where the system has it: pages that nobody writes to are none."""
        if self._open or not self._matrices:
            return
        self._size = -(-self._numbers * 4 // mmap.PAGESIZE) * mmap.PAGESIZE
        with suppress(OSError):
            self._lock = multiprocessing.get_context("fork").Lock()
            self._room = mmap.mmap(-1, _SLOTS * self._size)
            # Which matrix is in a slot, which parts of it are there, and where each member is.
            self._claims, self._places = _counts(_SLOTS), _counts(members)
            self._done = _counts(_SLOTS * self._spans).reshape(_SLOTS, self._spans)
            self._open = True

    @contextmanager
    def working(self, turn: Turn, member: int) -> Iterator[None]:
        """Within, matrices are made together with the other members of the turn."""
        if self._open and turn.members > 1:
            self._turn, self._member, self._count = turn, member, 0
        try:
            yield
        finally:
            self._leave()

    def make(
        self, number: int, shape: tuple[int, int], dtype: torch.dtype, fill: Callable[[Tensor], Filling]
    ) -> Tensor | None:
        """A matrix, [rows, columns], until the next one; None where it is to be made alone."""
        if self._turn is None:
            return None
        self._count += 1
        slot, place = self._count % _SLOTS, (self._turn.number << _COUNT) + self._count
        content = (place << _NUMBER) + number
        try:
            self._enter(self._turn, place, slot, content)
            rows, columns = shape
            out = torch.frombuffer(self._room, dtype=dtype, count=rows * columns, offset=slot * self._size).view(shape)
            self._fill(self._turn, fill(out), self._done[slot], content, spans(rows, columns))
        except _Stuck:
            self._leave()
            return None
        return out

    def _enter(self, turn: Turn, place: int, slot: int, content: int) -> None:
        """Make the slot this matrix's. Raises _Stuck where another still reads what was there, or takes it for more."""
        with self._locked():
            self._places[self._member] = place
        others = [member for member in range(turn.members) if member != self._member]
        seen, since = None, time.monotonic()
        while (found := self._places[others].tolist()) and min(found) <= place - _SLOTS:
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                raise _Stuck
            time.sleep(_PAUSE)
        with self._locked():
            if self._claims[slot] >> _NUMBER != place:
                self._claims[slot] = content
            if self._claims[slot] != content:
                raise _Stuck

    def _fill(self, turn: Turn, filling: Filling, done: Counts, content: int, parts: Sequence[tuple[int, int]]) -> None:
        """Write what is not there yet, from this member's own place on. Raises _Stuck."""
        first = len(parts) * self._member // turn.members
        for index in (*range(first, len(parts)), *range(first)):
            with self._locked():
                there = done[index] == content
            if not there:
                filling.write(*parts[index])
                with self._locked():
                    done[index] = content

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone for a moment: what was written before is seen by whoever comes after. Raises _Stuck."""
        if not self._lock.acquire(timeout=_PATIENCE):
            raise _Stuck
        try:
            yield
        finally:
            self._lock.release()

    def _leave(self) -> None:
        """Nothing in the room is read or written any more by this member in this turn."""
        if self._turn is not None:
            self._places[self._member] = (self._turn.number + 1) << _COUNT
            self._turn = None


def zeros(rows: int) -> Tensor:
    """A column of float32 that forked processes have in common: what one of them finds all know."""
    return torch.frombuffer(mmap.mmap(-1, rows * 4), dtype=torch.float32).view(rows, 1)


def _counts(count: int) -> Counts:
    """Zeros that forked processes have in common."""
    return np.frombuffer(mmap.mmap(-1, count * 8), np.int64)
