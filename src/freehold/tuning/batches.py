"""Rows to optimiser steps: packed side by side without padding, in an order that the seed alone decides."""

import random
from collections.abc import Iterator, Sequence

from freehold.tuning.render import Sample

_WINDOW = 32
"""Batches' worth of shuffled rows that are sorted by length together: equal lengths make attention cheap."""


def batches(samples: Sequence[Sample], batch_tokens: int, seed: int, epoch: int, rows: int = 0) -> list[list[int]]:
    """The indices of one epoch, a list per optimiser step, of at most `rows` if that is not 0.

    Every sample occurs exactly once.
    """
    order = list(range(len(samples)))
    shuffle = random.Random(f"{seed}/{epoch}")  # noqa: S311  an order, not a secret
    shuffle.shuffle(order)
    packed: list[list[int]] = []
    for window in _windows(order, samples, batch_tokens * _WINDOW):
        window.sort(key=lambda index: (len(samples[index].ids), index))
        packed += _windows(window, samples, batch_tokens, rows)
    shuffle.shuffle(packed)
    return packed


def schedule(samples: Sequence[Sample], batch_tokens: int, seed: int, rows: int = 0) -> Iterator[list[int]]:
    """The batches of all epochs, without end."""
    epoch = 0
    while True:
        yield from batches(samples, batch_tokens, seed, epoch, rows)
        epoch += 1


def _windows(order: Sequence[int], samples: Sequence[Sample], tokens: int, rows: int = 0) -> list[list[int]]:
    groups: list[list[int]] = []
    room = 0
    for index in order:
        length = len(samples[index].ids)
        if not groups or length > room or (rows and len(groups[-1]) == rows):
            groups.append([])
            room = tokens
        groups[-1].append(index)
        room -= length
    return groups
