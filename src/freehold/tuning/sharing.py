"""A step's examples shared out among processes, each of which computes its own on one core.

Cores that compute one operation together wait for the slowest at its end, thousands of times a step, and most of its
operations are too small for two. Threads with examples of their own would wait for Python's lock instead. So there are
processes, forked when the model is loaded: its weights are there once. What is trained, and each one's gradients, lie
in memory that all of them see.
"""

import gc
import mmap
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from freehold.core.errors import WorkerFailed
from freehold.core.system import end_with_parent
from freehold.tuning import memory
from freehold.tuning.decoder.common import Common, Turn
from freehold.tuning.heap import Heap
from freehold.tuning.objectives.base import Example

MOST = 8
"""Shares: each holds libraries and logits of its own."""
_TOGETHER = 0.5
"""The power of the number of cores by which they are faster together, on all examples."""
_ALIGNED = 64
"""Bytes to multiples of which tensors in shared memory begin."""
Learned = tuple[float, tuple[Tensor, ...]]
"""A share's part of the loss, and its gradients, in the order of what is trained; none where nothing is learned."""
Compute = Callable[["Share"], Learned]


class Share(NamedTuple):
    """What one process is to compute."""

    examples: Sequence[Example]
    whole: float
    """The weight of the examples of all shares."""
    learning: bool
    """Whether gradients are wanted."""
    known: dict[int, list[float]]
    """What the model that training began with says of the examples, where that is asked for."""


def shares(tokens: Sequence[int], cores: int, most: int = MOST) -> list[list[int]]:
    """The indices of examples of so many tokens, in as many shares, up to `most`, as are done soonest by the cores."""
    dealt = [_dealt(tokens, count) for count in range(2, min(MOST, most, cores, len(tokens)) + 1)]
    best = min(dealt, key=lambda parts: _longest(parts, tokens), default=None)
    if best is None or _longest(best, tokens) > sum(tokens) / cores**_TOGETHER:
        return [list(range(len(tokens)))]
    return best


def _dealt(tokens: Sequence[int], count: int) -> list[list[int]]:
    """The longest first, each to whoever has least; every share in the order of the examples."""
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for index in sorted(range(len(tokens)), key=lambda each: -tokens[each]):
        least = loads.index(min(loads))
        parts[least].append(index)
        loads[least] += tokens[index]
    return [sorted(part) for part in parts]


def _longest(parts: Sequence[Sequence[int]], tokens: Sequence[int]) -> int:
    return max(sum(tokens[index] for index in part) for part in parts)


class Crew:
    """The processes beside this one, forked when they are first needed. A context manager.

    `cores` work on what is not shared out, and at most so many processes on what is: `most`, this one among them.
    `compute` is what each does with its share, this process too; `trained` is what it finds changed by others; `heap`
    is tidied by each when it is done; `joined` is told of each process's id; in `common` all make matrices together.
    """

    def __init__(
        self,
        cores: int,
        most: int,
        compute: Compute,
        trained: Sequence[torch.nn.Parameter],
        heap: Heap,
        joined: Callable[[int], None],
        common: Common,
    ) -> None:
        self._cores, self._most, self._compute, self._trained = cores, most, compute, trained
        self._heap, self._joined, self._common = heap, joined, common
        self._turns = 0
        self._mates: list[_Mate] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mate in self._mates:
            mate.end()

    def shared(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Some examples in shares; the same ones for the same lengths."""
        parts = shares([example.tokens for example in examples], self._cores, self._most)
        return [[examples[index] for index in part] for part in parts]

    def each(self, work: Sequence[Share]) -> list[Learned]:
        """What `compute` makes of each share, in their order. Raises MemoryError, RuntimeError, WorkerFailed."""
        mates = self._beside(len(work) - 1)
        self._turns += 1
        turn = Turn(self._turns, 1 + len(mates))
        for mate, share in zip(mates, work[1:], strict=False):
            mate.ask(share, turn)
        torch.set_num_threads(1)
        try:
            with self._common.working(turn, 0):
                first = self._compute(work[0])
            rest = [self._compute(share) for share in work[1 + len(mates) :]]
        finally:
            torch.set_num_threads(self._cores)
            # Whoever is not waited for would answer the next step with this one.
            answers = [mate.answer() for mate in mates]
        others = [answer.learned(mate.gradients) for mate, answer in zip(mates, answers, strict=True)]
        return [first, *others, *rest]

    def _beside(self, count: int) -> "list[_Mate]":
        """As many processes, or as there may be."""
        try:
            while len(self._mates) < min(count, self._most - 1):
                self._fork()
        except OSError:  # the system has no room for one more
            self._most = 1 + len(self._mates)
        return self._mates[:count]

    def _fork(self) -> None:
        if not self._mates:
            self._common.open(self._most)
            for parameter, place in zip(self._trained, _room(self._trained), strict=True):
                place.copy_(parameter.data)
                parameter.data = place
        self._heap.trim()  # what is free would be there once more for each process that takes it
        mate = _Mate(1 + len(self._mates), self._compute, _room(self._trained), self._heap, self._common)
        self._mates.append(mate)
        self._joined(mate.pid)


class _Answer(NamedTuple):
    """What a process says of its share."""

    loss: float
    learning: bool
    error: str = ""
    memory: bool = False
    """Whether the error is that memory ran out."""

    def learned(self, gradients: tuple[Tensor, ...]) -> Learned:
        """Raises MemoryError, RuntimeError."""
        if self.error:
            raise (MemoryError if self.memory else RuntimeError)(self.error)
        return self.loss, gradients if self.learning else ()


class _Mate:
    """A process beside this one, and its gradients as it left them. It is the so manieth `member` of what is common."""

    def __init__(
        self, member: int, compute: Compute, gradients: tuple[Tensor, ...], heap: Heap, common: Common
    ) -> None:
        self.gradients = gradients
        self._connection, other = multiprocessing.Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python warns of locks that other threads may hold; what the process does takes none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            _serve(other, partial(_answered, member, compute, gradients, common), heap)
        other.close()

    def ask(self, share: Share, turn: Turn) -> None:
        """Have it begin."""
        try:
            self._connection.send((share, turn))
        except OSError as error:
            raise self._ended() from error

    def answer(self) -> _Answer:
        """What it says when it is done. Raises MemoryError, WorkerFailed where it has ended instead."""
        try:
            answer: _Answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        return answer

    def end(self) -> None:
        """It has nothing to lose."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()
        self._connection.close()

    def _wait(self) -> int:
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _ended(self) -> MemoryError | WorkerFailed:
        code = self._wait() if self.pid else 0
        if code == -signal.SIGKILL:
            return MemoryError("not enough memory: a process that computes a share of each step was killed")
        return WorkerFailed(
            f"a process that computes a share of each step ended with {code}",
            "Run the same command again to go on from the last checkpoint; threads = 1 does without it",
        )


def _serve(connection: Connection, answered: Callable[[Share, Turn], _Answer], heap: Heap) -> None:
    """A forked process's life: it computes what it is asked for until the one that asks has ended."""
    code = 1
    try:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asks decides what an interrupt means
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        gc.freeze()
        # A lock that it would hold on to beyond its parent's end, and the other ends of pipes.
        own = connection.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        torch.set_num_threads(1)  # those of the other process were not forked
        while True:
            connection.send(answered(*connection.recv()))
            heap.tidy()
    except (EOFError, OSError):
        code = 0
    finally:
        os._exit(code)


def _answered(
    member: int, compute: Compute, gradients: tuple[Tensor, ...], common: Common, share: Share, turn: Turn
) -> _Answer:
    try:
        with common.working(turn, member):
            loss, found = compute(share)
    except (MemoryError, RuntimeError) as error:
        return _Answer(0.0, share.learning, str(error) or type(error).__name__, memory.ran_out(error))
    for place, gradient in zip(gradients, found, strict=False):
        place.copy_(gradient)
    return _Answer(loss, share.learning)


def _room(like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Tensors of the same shapes and types, in memory that this process and those it forks all see."""
    sizes = [tensor.numel() * tensor.element_size() for tensor in like]
    steps = [-(-size // _ALIGNED) * _ALIGNED for size in sizes]
    shared = mmap.mmap(-1, max(1, sum(steps)))
    return tuple(_places(shared, like, steps))


def _places(shared: Any, like: Sequence[Tensor], steps: Sequence[int]) -> Iterator[Tensor]:
    at = 0
    for tensor, step in zip(like, steps, strict=True):
        flat = torch.frombuffer(shared, dtype=tensor.dtype, count=tensor.numel(), offset=at)
        yield flat.view(tensor.shape)
        at += step
