"""Layers of which the input is kept, and that are computed a second time for their gradients: no more than these need.

torch computes a layer the second time as it did the first, until all is there that its gradients are made of. What
nobody reads then need not be computed, and what is dear and small can wait from the first time for the second.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint


class _Now(threading.local):
    """What this thread computes: nothing twice, or a layer for the first or the second time."""

    waiting: deque[tuple[Tensor, ...]] | None = None
    again = False


_now = _Now()


def twice(layer: Callable[..., Tensor], *args: Any) -> Tensor:
    """What a layer gives, of which nothing but the arguments is kept, and what it gives to `kept`."""
    made: Tensor = checkpoint(layer, *args, use_reentrant=False, preserve_rng_state=False, context_fn=_both)
    return made


def repeated() -> bool:
    """Whether a layer is computed that is computed twice."""
    return _now.waiting is not None


def again() -> bool:
    """Whether a layer is computed for the second time: nobody reads its result."""
    return _now.again


def kept(make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What `make` gives; in a layer's second time what it gave in the first. Gradients do not flow through it."""
    if _now.waiting is None:
        return make()
    if _now.again:
        return _now.waiting.popleft()
    made = make()
    # Tensors of their own: those that are handed out will know of the graph, which knows of what waits.
    _now.waiting.append(tuple(part.detach() for part in made))
    return made


def _both() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    waiting: deque[tuple[Tensor, ...]] = deque()
    return _within(waiting, again=False), _within(waiting, again=True)


@contextmanager
def _within(waiting: deque[tuple[Tensor, ...]], *, again: bool) -> Iterator[None]:
    before = _now.waiting, _now.again
    _now.waiting, _now.again = waiting, again
    try:
        yield
    finally:
        _now.waiting, _now.again = before
