"""What a job would take: its largest step for the memory, some usual ones for the time."""

import time
from collections.abc import Callable, Sequence
from statistics import median

from freehold.tuning.device import Device
from freehold.tuning.job import TrainPlan
from freehold.tuning.memory import Keeping, Watch, peak_rss

_LEAST = 3
"""Steps that are timed whatever they take."""
_SOUGHT = 1000
"""Steps among which new sizes are looked for: to deal 20,000 out to eight cores takes seconds, and few are tried."""
Step = Callable[[Sequence[int]], None]
Sizes = Callable[[Sequence[int]], Sequence[int]]
"""The tokens that each process has of a step."""


def seconds_per_token(order: Sequence[Sequence[int]], lengths: Sequence[int], step: Step, limit: float) -> float:
    """Of usual steps, tried for about `limit` seconds. The first is not counted: memory is new to it."""
    begin, speeds = time.monotonic(), []
    for batch in order:
        started = time.monotonic()
        step(batch)
        speeds.append((time.monotonic() - started) / sum(lengths[index] for index in batch))
        if len(speeds) > _LEAST and time.monotonic() - begin > limit:
            break
    return median(speeds[1:] or speeds)


def various(order: Sequence[Sequence[int]], sizes: Sizes) -> list[Sequence[int]]:
    """The same steps, those first that bring a new size with them.

    Memory grows with each new one: a few steps tell what many will hold when they are of as many sizes.
    """
    known: set[tuple[int, int]] = set()
    new: list[Sequence[int]] = []
    old: list[Sequence[int]] = []
    for batch in order[:_SOUGHT]:
        found = set(enumerate(sizes(batch)))
        (old if found <= known else new).append(batch)
        known |= found
    return [*new, *old, *order[_SOUGHT:]]


def steps_within(seconds: float, each: float, tokens: float) -> int:
    """Steps of so many tokens that fit, of `each` seconds a token; one at least."""
    return max(1, int(seconds / (each * tokens)))


def probe(
    order: Sequence[Sequence[int]],
    lengths: Sequence[int],
    step: Step,
    *,
    steps: int,
    within: float = 0.0,
    beside: float = 0.0,
    seconds: float,
    watch: Watch,
    place: Device,
    keeping: Keeping,
    dtype: str,
) -> TrainPlan:
    """Try some of a job's `steps`, or of those that fit `within` a time, for `seconds`.

    `order` is the first of them, as indices into `lengths`, the rows' tokens. `beside` is the time of all that is no
    step, in seconds too.
    """
    largest = max(order, key=lambda batch: len(batch) * max(lengths[index] for index in batch))
    step(largest)
    each = seconds_per_token(order, lengths, step, seconds)
    step(largest)  # on top of what the others left behind it holds most
    mean = sum(lengths[index] for batch in order for index in batch) / len(order)
    if within:
        steps = steps_within(within - beside, each, mean)
    tokens = round(mean * steps)
    return TrainPlan(
        steps=steps,
        tokens=tokens,
        seconds=tokens * each + beside,
        tokens_per_second=1 / each,
        # What the system says of this process leaves out those that compute beside it.
        peak_rss=max(peak_rss(), watch.resident),
        peak_private=watch.private,
        peak_device=place.peak(),
        checkpointing=keeping.checkpointing,
        offload=keeping.offload,
        dtype=dtype,
    )
