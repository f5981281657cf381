"""What a job would take is said from some of its steps, the largest among them first."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freehold.tuning.device import Device
from freehold.tuning.job import TrainPlan
from freehold.tuning.memory import Keeping, Watch
from freehold.tuning.precision import choose
from freehold.tuning.probing import probe, seconds_per_token, various

LENGTHS = [5, 40, 7, 9, 30, 31, 2, 3]
ORDER = [[0, 2], [1], [4, 5], [3, 6, 7]]


def tried(
    order: Sequence[Sequence[int]], steps: int, seconds: float = 0.0, **more: float
) -> tuple[list[list[int]], TrainPlan]:
    seen: list[list[int]] = []
    with Watch() as watch:
        found = probe(
            order, LENGTHS, lambda batch: seen.append(list(batch)), steps=steps, seconds=seconds, watch=watch,
            place=Device(), keeping=Keeping(checkpointing=True, offload=False), dtype="f32", **more,
        )  # fmt: skip
    return seen, found


def test_the_step_that_takes_most_memory_goes_first_and_last() -> None:
    """Rows of a step are as long as its longest for the memory that they take."""
    seen, _ = tried(ORDER, 4)
    assert seen[0] == seen[-1] == [4, 5]
    assert seen[1:-1] == ORDER


def test_tokens_of_all_steps_are_told_from_the_first() -> None:
    for steps in (1, 4, 400):
        _, found = tried(ORDER, steps)
        assert (found.steps, found.tokens) == (steps, round(127 * steps / 4))
        assert found.seconds == pytest.approx(found.tokens / found.tokens_per_second)
        assert (found.checkpointing, found.dtype) == (True, "f32")
        assert found.peak_rss > 1 << 20


@given(st.integers(1, 30))
def test_a_few_steps_are_tried_whatever_they_take_and_no_more_without_time(count: int) -> None:
    seen: list[int] = []
    order = [[number % len(LENGTHS)] for number in range(count)]
    each = seconds_per_token(order, LENGTHS, lambda batch: seen.append(batch[0]), 0.0)
    assert seen == [batch[0] for batch in order[:4]]
    assert each >= 0


def test_steps_that_bring_a_new_size_come_first() -> None:
    sizes = {0: [32, 48], 1: [32, 48], 2: [48, 32], 3: [32], 4: [64, 48], 5: [48, 48]}
    found = various([[number] for number in sizes], lambda batch: sizes[batch[0]])
    assert found == [[0], [2], [4], [1], [3], [5]]


def test_sizes_are_asked_of_the_first_steps_alone() -> None:
    asked: list[int] = []
    order = [[number] for number in range(5000)]
    assert various(order, lambda batch: asked.append(batch[0]) or [32]) == order
    assert asked == list(range(1000))


def test_all_steps_are_tried_where_there_is_time() -> None:
    seen: list[int] = []
    seconds_per_token([[0]] * 50, LENGTHS, lambda batch: seen.append(batch[0]), 600.0)
    assert len(seen) == 50


@pytest.mark.parametrize(("wanted", "dtype"), [("f32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_type_that_is_asked_for_is_taken(wanted: str, dtype: torch.dtype) -> None:
    assert choose(wanted, Device()) is dtype


def test_auto_is_one_of_both() -> None:
    assert choose("auto", Device()) in (torch.float32, torch.bfloat16)


def test_a_plan_for_a_time_is_of_the_steps_that_fit_it() -> None:
    _, found = tried(ORDER, 4, within=100.0, beside=20.0)
    assert found.seconds == pytest.approx(100, rel=0.01)
    assert found.steps > 4
    _, found = tried(ORDER, 4, within=1e-9)
    assert found.steps == 1


def test_memory_of_processes_beside_counts() -> None:
    class Beside(Watch):
        resident, private = 1 << 50, 1 << 49

        def __init__(self) -> None:
            """Watch nothing."""

    found = probe(
        ORDER, LENGTHS, lambda batch: None, steps=4, seconds=0, watch=Beside(), place=Device(),
        keeping=Keeping(checkpointing=True, offload=False), dtype="f32",
    )  # fmt: skip
    assert found.peak_rss == 1 << 50
