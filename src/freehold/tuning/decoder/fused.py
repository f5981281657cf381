"""Chains of operations as one kernel each, where a GPU computes: it waits for memory, once a kernel and not once each.

torch's compiler writes them. Where it cannot, for want of a C compiler or of Triton, the operations stay as they are.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
_KINDS = 64
"""Kernels of one chain: for each combination of types, and for each type of blocks in a file."""
_everywhere = False
_WORTH = 4e14
"""Numbers of projections times tokens: as many seconds of work, or a few times as many, as the compiler takes."""
_asked = True


def fused(function: Callable[P, T]) -> Callable[P, T]:
    """A function of tensors, the first argument one of them, that makes new ones and changes none of those it gets."""

    @cache
    def compiled() -> Callable[P, T]:
        # The compiler takes a second to be imported, which a processor need not wait for.
        torch._dynamo.config.recompile_limit = _KINDS
        return torch.compile(function, dynamic=True, fullgraph=True)

    @wraps(function)
    def chosen(*args: P.args, **kwargs: P.kwargs) -> T:
        first = args[0]
        if isinstance(first, torch.Tensor) and fuses(first):
            return compiled()(*args, **kwargs)
        return function(*args, **kwargs)

    return chosen


def fuses(part: torch.Tensor) -> bool:
    """Whether chains are one kernel on this tensor's device."""
    return (part.is_cuda and _asked and _works()) or _everywhere


def ask(numbers: int, tokens: float) -> None:
    """Say how much is to be done, by projections of so many numbers: for little the compiler is not waited for."""
    global _asked
    _asked = numbers * tokens >= _WORTH


@contextmanager
def everywhere() -> Iterator[None]:
    """Processors too: the same kernels in another language, so that their numbers can be compared."""
    global _everywhere
    before, _everywhere = _everywhere, True
    try:
        yield
    finally:
        _everywhere = before


@cache
def _works() -> bool:
    """Whether the compiler can do it here, tried once."""
    one = torch.ones(8, device="cuda")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(torch.compile(lambda x: (x + 1).square())(one).sum().item() == 32.0)
    except (RuntimeError, OSError, ImportError):
        return False
