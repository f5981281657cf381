"""A step's examples shared out among threads, each of which computes its own with a part of the cores.

Cores that compute one operation together wait for the slowest at its end, thousands of times a step, and most of its
operations are too small for two. Where each computes rows of its own they wait once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from freehold.tuning.objectives.base import Example

T = TypeVar("T")
MOST = 4
"""Shares. Each holds a chunk of logits of its own, and reads all weights."""
_TOGETHER = 0.5
"""The power of the number of cores by which they are faster together, on one share."""


def shares(tokens: Sequence[int], threads: int) -> list[list[int]]:
    """The indices of examples of so many tokens, in as many shares as are done soonest by this many threads."""
    counts = [count for count in range(1, min(MOST, threads, len(tokens)) + 1) if threads % count == 0]
    dealt = [_dealt(tokens, count) for count in counts or [1]]
    return min(dealt, key=lambda parts: _last(parts, tokens) / (threads // len(parts)) ** _TOGETHER)


def _dealt(tokens: Sequence[int], count: int) -> list[list[int]]:
    """The longest first, each to whoever has least; every share in the order of the examples."""
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for index in sorted(range(len(tokens)), key=lambda each: -tokens[each]):
        least = loads.index(min(loads))
        parts[least].append(index)
        loads[least] += tokens[index]
    return [sorted(part) for part in parts]


def _last(parts: Sequence[Sequence[int]], tokens: Sequence[int]) -> int:
    return max(sum(tokens[index] for index in part) for part in parts)


class Crew:
    """The threads that compute, the one that asks among them. Made where `threads` is torch's number of threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(MOST, "share")

    def share(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Some examples in shares; the same ones for the same lengths."""
        parts = shares([example.tokens for example in examples], self.threads)
        return [[examples[index] for index in part] for part in parts]

    def each(self, parts: Sequence[Sequence[Example]], work: Callable[[Sequence[Example]], T]) -> list[T]:
        """What `work` makes of each share, all at once. Raises what it raises, when all have ended."""
        if len(parts) == 1:
            return [work(parts[0])]
        cores, learning = self.threads // len(parts), torch.is_grad_enabled()

        def one(part: Sequence[Example]) -> T:
            torch.set_num_threads(cores)  # of the thread that says it
            with torch.set_grad_enabled(learning):
                return work(part)

        others: list[Future[T]] = [self._pool.submit(one, part) for part in parts[1:]]
        try:
            first = one(parts[0])
        finally:
            torch.set_num_threads(self.threads)
            for other in others:
                other.exception()
        return [first, *(other.result() for other in others)]
