"""Packing: every row once, never above the budget, in an order that the seed decides."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.tuning.batches import batches, schedule

lengths = st.lists(st.integers(2, 60), min_size=1, max_size=200)


@given(lengths, st.integers(0, 5))
def test_an_epoch_holds_every_row_once(sizes: list[int], epoch: int) -> None:
    packed = batches(sizes, 128, 1, epoch)
    assert sorted(index for batch in packed for index in batch) == list(range(len(sizes)))


@given(lengths)
def test_no_batch_is_above_the_budget(sizes: list[int]) -> None:
    for batch in batches(sizes, 64, 1, 0):
        assert sum(sizes[index] for index in batch) <= 64


def test_a_row_above_the_budget_has_a_batch_of_its_own() -> None:
    assert sorted(map(tuple, batches([200, 5, 5], 64, 1, 0))) in ([(0,), (1, 2)], [(0,), (2, 1)])


@given(lengths, st.integers(0, 1 << 40))
def test_the_same_seed_gives_the_same_order(sizes: list[int], seed: int) -> None:
    assert batches(sizes, 64, seed, 3) == batches(sizes, 64, seed, 3)


def test_epochs_and_seeds_differ() -> None:
    made = list(range(2, 60))
    assert batches(made, 64, 1, 0) != batches(made, 64, 1, 1)
    assert batches(made, 64, 1, 0) != batches(made, 64, 2, 0)


def test_the_schedule_goes_on_into_further_epochs() -> None:
    made = [10] * 6
    first = batches(made, 20, 1, 0)
    assert list(islice(schedule(made, 20, 1), len(first) + 1))[-1] == batches(made, 20, 1, 1)[0]


@given(lengths, st.integers(1, 7))
def test_no_batch_has_more_rows_than_it_may(sizes: list[int], rows: int) -> None:
    packed = batches(sizes, 10_000, 1, 0, rows)
    assert max(map(len, packed)) <= rows
    assert sorted(index for batch in packed for index in batch) == list(range(len(sizes)))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 300))
def test_rows_that_fit_exactly_fill_their_batches(each: int, rows: int, count: int) -> None:
    packed = batches([each * 3] * count, each * 3 * rows, 1, 0)
    assert sorted(map(len, packed), reverse=True)[: count // rows] == [rows] * (count // rows)
    assert len(packed) == -(-count // rows)


@pytest.mark.parametrize("over", [0, 1])
def test_one_token_too_many_is_a_batch_more(over: int) -> None:
    assert len(batches([32, 32 + over], 64, 1, 0)) == 1 + over


def test_one_row_and_none() -> None:
    assert batches([5], 64, 1, 0) == [[0]]
    assert batches([], 64, 1, 0) == []
    assert list(islice(schedule([5], 64, 1), 3)) == [[0], [0], [0]]
