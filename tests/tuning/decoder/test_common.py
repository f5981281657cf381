"""Processes that make matrices together get those that each would make alone, whatever becomes of the others."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from freehold.tuning.decoder import common as module
from freehold.tuning.decoder.common import Common, Turn, zeros
from freehold.tuning.decoder.filling import Filling, spans

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on Linux alone")
FORKED = multiprocessing.get_context("fork") if hasattr(os, "fork") else multiprocessing.get_context()
SHAPES = [(300, 2048), (64, 4096), (1000, 1024), (5, 16)]
Life = Callable[[int], None]


class Counting(Filling):
    """Writes numbers that follow from matrix, row and column, and counts its rows where all processes see it."""

    def __init__(self, out: Tensor, number: int, written: Tensor) -> None:
        super().__init__(out)
        self.number, self.written = number, written

    def make(self, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """Rows, slowly enough for others to come in between."""
        out[:] = numbers(self.number, *self.out.shape)[begin:end].numpy()
        self.written[self.number] += end - begin
        time.sleep(0.001)


def numbers(number: int, rows: int, columns: int) -> Tensor:
    return (torch.arange(rows * columns, dtype=torch.float32).view(rows, columns) % 251) + number


class Kit:
    """A room with four matrices, and what members of it do."""

    def __init__(self, members: int) -> None:
        self.common = Common()
        self.known = [self.common.expect(*shape) for shape in SHAPES]
        self.common.open(members)
        self.members, self.written, self.wrong = members, zeros(10), zeros(members)
        self.alone = zeros(members)

    def make(self, index: int, member: int, dtype: torch.dtype = torch.float32) -> None:
        """One matrix, looked at for a while."""
        shape, number = SHAPES[index], self.known[index]
        made = self.common.make(number, shape, dtype, lambda out: Counting(out, number, self.written))
        if made is None:
            self.alone[member] += 1
            return
        for _ in range(2):
            self.wrong[member] += float(not torch.equal(made, numbers(number, *shape).to(dtype)))
            time.sleep(0.001)

    def whole(self, member: int) -> None:
        """A life that makes them all, five times."""
        for turn in range(20):
            self.make(turn % 4, member)

    def run(self, lives: Sequence[Life], turn: int = 1, limit: float = 60.0) -> list[int]:
        """Each in a process of its own, all at once; the codes that they end with."""

        def live(member: int, life: Life) -> None:
            torch.set_num_threads(1)
            with self.common.working(Turn(turn, self.members), member):
                life(member)

        children = [FORKED.Process(target=live, args=(member, life)) for member, life in enumerate(lives)]
        for child in children:
            child.start()
        end = time.monotonic() + limit
        for child in children:
            child.join(max(0.0, end - time.monotonic()))
        late = [child for child in children if child.is_alive()]
        for child in late:
            child.kill()
        assert not late
        return [int(child.exitcode or 0) for child in children]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("members", [2, 3])
def test_all_get_the_matrices_and_each_is_written_about_once(members: int, dtype: torch.dtype) -> None:
    kit = Kit(members)

    def life(member: int) -> None:
        for turn in range(24):
            kit.make(turn % 4, member, dtype)

    for turn in (1, 2):
        assert kit.run([life] * members, turn) == [0] * members
    assert not kit.wrong.any()
    assert not kit.alone.any()
    rows = 12 * sum(rows for rows, _ in SHAPES)
    # Alone each would write them all.
    assert rows <= kit.written.sum() < 0.5 * rows * (1 + members)


def test_whoever_comes_later_finds_it_done_and_whoever_is_ahead_waits() -> None:
    kit = Kit(2)
    fast, slow = kit.written[8], kit.written[9]

    def ahead(member: int) -> None:
        for turn in range(20):
            kit.make(turn % 4, member)
            fast.add_(1)
            assert fast <= slow + 3

    def behind(member: int) -> None:
        for turn in range(20):
            time.sleep(0.05)
            kit.make(turn % 4, member)
            slow.add_(1)

    assert kit.run([ahead, behind]) == [0, 0]
    assert not kit.wrong.any()
    assert not kit.alone.any()
    assert kit.written[:8].sum() < 1.2 * 5 * sum(rows for rows, _ in SHAPES)


def test_others_go_on_without_whoever_stops_early_or_does_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    kit = Kit(3)

    def short(member: int) -> None:
        for turn in range(3):
            kit.make(turn % 4, member)

    def otherwise(member: int) -> None:
        for turn in range(20):
            kit.make((turn * 3 + 1) % 4, member)

    assert kit.run([kit.whole, short, otherwise]) == [0, 0, 0]
    assert not kit.wrong.any()


@pytest.mark.parametrize("holding", [False, True])
def test_nobody_hangs_on_one_that_was_killed(holding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    kit = Kit(2)

    def killed(member: int) -> None:
        for turn in range(3):
            kit.make(turn % 4, member)
        if holding:
            kit.common._lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    assert kit.run([kit.whole, killed], limit=20) == [0, -signal.SIGKILL]
    assert not kit.wrong.any()
    assert kit.alone[0] > 0


def test_outside_a_turn_all_is_made_alone() -> None:
    kit = Kit(2)
    kit.make(0, 0)
    with kit.common.working(Turn(1, 1), 0):
        kit.make(0, 0)
    assert kit.alone[0] == 2
    closed = Common()
    closed.open(2)
    with closed.working(Turn(1, 2), 0):
        assert closed.make(1, (2, 2), torch.float32, lambda out: Counting(out, 1, kit.written)) is None


def test_spans_are_all_rows() -> None:
    for rows, columns in (*SHAPES, (3, 1 << 18)):
        parts = spans(rows, columns)
        assert [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])]
        assert parts[-1][1] == rows
