"""Rows to optimiser steps: packed side by side without padding, in an order that the seed alone decides."""

import random
from collections.abc import Iterator, Sequence

_WINDOW = 32
"""Batches' worth of shuffled rows that are sorted by length together: equal lengths make attention cheap."""


def batches(lengths: Sequence[int], batch_tokens: int, seed: int, epoch: int, rows: int = 0) -> list[list[int]]:
    """The indices of one epoch, a list per optimiser step, of at most `rows` if that is not 0.

    `lengths` are tokens. Every index occurs exactly once.
    """
    order = list(range(len(lengths)))
    shuffle = random.Random(f"{seed}/{epoch}")  # noqa: S311  an order, not a secret
    shuffle.shuffle(order)
    packed: list[list[int]] = []
    for window in windows(order, lengths, batch_tokens * _WINDOW):
        window.sort(key=lambda index: (lengths[index], index))
        packed += windows(window, lengths, batch_tokens, rows)
    shuffle.shuffle(packed)
    return packed


def schedule(lengths: Sequence[int], batch_tokens: int, seed: int, rows: int = 0) -> Iterator[list[int]]:
    """The batches of all epochs, without end."""
    epoch = 0
    while True:
        yield from batches(lengths, batch_tokens, seed, epoch, rows)
        epoch += 1


def windows(order: Sequence[int], lengths: Sequence[int], tokens: int, rows: int = 0) -> list[list[int]]:
    """Indices in their order, in groups of at most so many tokens, or of one that has more; of `rows` if not 0."""
    groups: list[list[int]] = []
    room = 0
    for index in order:
        length = lengths[index]
        if not groups or length > room or (rows and len(groups[-1]) == rows):
            groups.append([])
            room = tokens
        groups[-1].append(index)
        room -= length
    return groups
