"""When training stops before its end, and which weights are taken."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from freehold.tuning.checkpoint import State
from freehold.tuning.job import HeldOutLoss, TrainJob
from freehold.tuning.stopping import Best, Ending, Rise, lost, points, worse


@given(st.integers(1, 5000), st.integers(0, 50))
def test_points_are_spread_from_the_start_to_the_end(steps: int, evaluations: int) -> None:
    found = points(steps, evaluations)
    assert len(found) == min(evaluations, steps + 1)
    assert all(0 <= point <= steps for point in found)
    if evaluations:
        assert steps in found
    if evaluations > 1:
        assert 0 in found


def judged(folder: Path, losses: list[float], patience: int) -> tuple[int, State, nn.Parameter]:
    """How many losses were looked at, with weights that are the number of the loss."""
    weight = nn.Parameter(torch.zeros(2))
    best, state = Best(folder, {"weight": weight}, patience), State()
    for count, loss in enumerate(losses):
        state.step = count * 10
        with torch.no_grad():
            weight.fill_(count)
        state.held_out_losses.append(HeldOutLoss(state.step, loss))
        if best.judge(state):
            break
    best.take(state)
    return len(state.held_out_losses), state, weight


@pytest.mark.parametrize(
    ("losses", "patience", "seen", "taken"),
    [
        ([3, 2, 2.5, 2.6, 1], 2, 4, 1),
        ([3, 2, 2.5, 1.9, 2, 2, 0], 2, 6, 3),
        ([3, 2, 1], 1, 3, 2),
        ([1, 2, 0], 1, 2, 0),
        ([3, 2, 1, 1.5], 2, 4, 2),
        ([1, 2, 3, 4], 0, 4, 3),
    ],
)
def test_the_best_weights_are_taken(tmp_path: Path, losses: list[float], patience: int, seen: int, taken: int) -> None:
    count, state, weight = judged(tmp_path, losses, patience)
    assert count == seen
    assert weight[0] == taken
    if patience:
        assert state.best_step == 10 * taken


@pytest.mark.parametrize(
    ("losses", "over"),
    [
        ([7.0] * 500, False),
        ([4.0] * 30 + [1.0] * 30 + [3.5] * 30, True),
        ([4.0] * 30 + [1.0] * 30 + [2.9] * 300, False),
        ([4.0] * 40 + [7.0] * 300, False),
        ([4.0] * 40 + [9.0] * 30, True),
        ([1.0] * 30 + [30.0] + [1.0] * 300, False),
        ([1.0, 40.0] * 9, False),
    ],
    ids=["flat", "lost again", "less than that", "less than doubled", "doubled", "one row", "too few"],
)
def test_a_loss_that_runs_away_is_seen(losses: list[float], over: bool) -> None:
    rise = Rise([])
    seen = False
    for loss in losses:
        rise.add(loss)
        seen = seen or lost(rise.mean, rise.lowest)
    assert seen is over


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([], ""),
        ([(10, 3.0)], ""),
        ([(0, 3.0), (10, 2.0)], ""),
        ([(0, 2.0), (5, 9.0), (10, 2.0)], ""),
        ([(5, 2.0), (10, 3.0)], ""),
        ([(0, 2.0), (10, 2.5)], "the held-out loss rose from 2.000 to 2.500: the base itself does better"),
    ],
    ids=["none", "one", "better", "as good", "not of the base", "worse"],
)
def test_a_result_that_is_worse_than_its_base_is_told(losses: list[tuple[int, float]], said: str) -> None:
    told = worse([HeldOutLoss(*each) for each in losses])
    assert told.startswith(said)
    assert bool(told) == bool(said)


@given(st.lists(st.floats(0, 50), max_size=100), st.integers(0, 100))
def test_what_is_seen_does_not_depend_on_where_a_run_went_on(losses: list[float], at: int) -> None:
    resumed = Rise(losses[:at])
    for loss in losses[at:]:
        resumed.add(loss)
    assert (resumed.mean, resumed.lowest) == (Rise(losses).mean, Rise(losses).lowest)


def test_weights_that_another_job_left_behind_are_not_taken(tmp_path: Path) -> None:
    judged(tmp_path, [3, 1, 2], 1)
    weight, state = nn.Parameter(torch.full((2,), 7.0)), State(step=9)
    Best(tmp_path, {"weight": weight}, 1).take(state)
    assert weight.tolist() == [7.0, 7.0], "nothing was measured of this one"


def test_weights_of_a_run_that_goes_on_are_the_best_of_both_parts(tmp_path: Path) -> None:
    _, state, _ = judged(tmp_path, [3, 1, 2], 5)
    weight = nn.Parameter(torch.full((2,), 7.0))
    state.step, state.held_out_losses = 30, [*state.held_out_losses, HeldOutLoss(30, 1.5)]
    best = Best(tmp_path, {"weight": weight}, 5)
    assert not best.judge(state)
    best.take(state)
    assert (state.best_step, weight.tolist()) == (10, [1.0, 1.0])


@pytest.mark.parametrize(
    ("steps", "evaluations", "found"),
    [(1, 4, {0, 1}), (2, 3, {0, 1, 2}), (10, 1, {10}), (10, 0, set()), (3, 2, {0, 3})],
)
def test_points_of_few_steps(steps: int, evaluations: int, found: set[int]) -> None:
    assert points(steps, evaluations) == found


def test_training_ends_when_its_time_is_well_over() -> None:
    job = TrainJob(out=Path(), train=Path(), seconds=100.0)
    ending = Ending(job, 5.0)
    assert ending.due(State(step=3, seconds=104.9)) == ""
    assert ending.due(State(step=3, seconds=105.1)) == "time"
    assert ending.due(State(step=3, seconds=95.1), 10.0) == "time"
    assert ending.due(State(step=0, seconds=105.1)) == ""
    assert Ending(TrainJob(out=Path(), train=Path())).due(State(step=3, seconds=1e9)) == ""
