"""The heap is trimmed when steps have left too much behind, and no more often."""

import ctypes
import sys
from collections.abc import Callable

import pytest

from freehold.tuning.heap import Heap
from freehold.tuning.job import TrainJob
from freehold.tuning.memory import anonymous
from freehold.tuning.trainer import Trainer


class Held:
    """Memory that grows with each step as it is told, and is what the last step needed once it is trimmed."""

    def __init__(self) -> None:
        self.now = 0
        self.trims: list[int] = []

    def trim(self, kept: int) -> int:
        self.trims.append(kept)
        self.now = 0
        return 1


def after(held: Held, heap: Heap, *steps: int) -> list[bool]:
    """Whether the heap was trimmed after each step, which leaves so much more behind."""
    found = []
    for grown in steps:
        before = len(held.trims)
        held.now += grown
        heap.tidy()
        found.append(len(held.trims) > before)
    return found


def test_what_steps_leave_behind_is_given_back_when_it_is_too_much() -> None:
    held = Held()
    heap = Heap(held.trim, lambda: held.now)
    assert after(held, heap, 100, 4, 4, 4, 4) == [False, False, False, False, True]
    assert held.trims == [0]
    assert after(held, heap, 100, 14, 2) == [False, False, True]


def test_a_larger_step_sets_the_measure_and_a_smaller_one_does_not() -> None:
    held = Held()
    heap = Heap(held.trim, lambda: held.now)
    assert after(held, heap, 100, 100) == [False, True]
    assert after(held, heap, 200, 20, 20) == [False, False, True]
    assert after(held, heap, 100, 120, 20) == [False, False, True]


def test_where_nothing_can_trim_nothing_is_asked() -> None:
    def asked() -> int:
        raise AssertionError

    Heap(None, asked).tidy()


def test_each_step_of_a_training_asks_once(job: Callable[..., TrainJob]) -> None:
    trainer, held = Trainer(job(steps=3), lambda report: None), iter((100, 120, 140))
    trims = Held()
    trainer.heap = Heap(trims.trim, held.__next__)
    trainer.run()
    assert trims.trims == [0]
    assert list(held) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_freed_memory_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    size, count = 64 << 10, 1 << 10
    heap = Heap.of_this_process()
    heap.tidy()
    blocks = [libc.malloc(ctypes.c_size_t(size)) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:  # the last one lies behind them, so that the heap's end stays where it is
        libc.free(block)
    held = anonymous()
    Heap(libc.malloc_trim, lambda: 1).tidy()  # the first step is never too much
    assert anonymous() > held - (16 << 20)
    trimming = Heap(libc.malloc_trim, iter((1, 2)).__next__)
    trimming.tidy()
    trimming.tidy()
    assert anonymous() < held - size * count // 2
    libc.free(blocks[-1])
