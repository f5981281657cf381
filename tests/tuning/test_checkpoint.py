"""A checkpoint holds all that the next step depends on, and at every instant one of them is whole."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from freehold.tuning import checkpoint
from freehold.tuning.checkpoint import State
from freehold.tuning.job import HeldOutLoss
from freehold.tuning.optimiser import build

STATE = State(
    step=3, tokens=400, supervised_tokens=90, seconds=1.5, resumed=1, losses=[3.0, 2.5, 2.25],
    held_out_losses=[HeldOutLoss(0, 4.0), HeldOutLoss(2, 3.5)], steps=40, best_step=2,
)  # fmt: skip
NAMES = ("model.layers.0.w.weight", "model.layers.1.w.weight", "model.norm.weight")


class Run:
    """A small training: weights by name, their optimisers, and steps whose gradients the number of the step decides."""

    def __init__(self, method: str = "lora", dtype: torch.dtype = torch.float32) -> None:
        draw = torch.Generator().manual_seed(1)
        shapes = ((6, 4), (4, 6), (5,))
        self.trained = {
            name: nn.Parameter(torch.randn(shape, generator=draw).to(dtype))
            for name, shape in zip(NAMES, shapes, strict=True)
        }
        self.optimisers = build(self.trained, method, 0.01, 0.1, torch.float32)

    def step(self, number: int) -> None:
        draw = torch.Generator().manual_seed(100 + number)
        for value in self.trained.values():
            value.grad = torch.randn(value.shape, generator=draw).to(value.dtype)
        for optimiser in self.optimisers:
            optimiser.step()

    @property
    def weights(self) -> list[torch.Tensor]:
        return [value.detach().clone() for value in self.trained.values()]

    def save(self, folder: Path, state: State = STATE) -> None:
        checkpoint.save(folder, state, self.trained, self.optimisers)

    def load(self, folder: Path) -> State:
        return checkpoint.load(folder, self.trained, self.optimisers)


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("method", ["lora", "full", "scratch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_that_goes_on_makes_the_same_steps(tmp_path: Path, method: str, dtype: torch.dtype) -> None:
    """To the bit: momentum, second moments and counts come back too."""
    whole, first, second = Run(method, dtype), Run(method, dtype), Run(method, dtype)
    for number in range(3):
        whole.step(number)
        first.step(number)
    first.save(tmp_path)
    assert second.load(tmp_path) == STATE
    assert same(second.weights, first.weights)
    for number in range(3, 6):
        whole.step(number)
        second.step(number)
    assert same(second.weights, whole.weights)


def test_weights_alone_would_make_other_steps(tmp_path: Path) -> None:
    first, second = Run(), Run()
    for number in range(3):
        first.step(number)
    for name, value in second.trained.items():
        value.data.copy_(first.trained[name].data)
    first.step(3)
    second.step(3)
    assert not same(second.weights, first.weights), "or the test above would show nothing"


def test_a_run_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    run = Run()
    before = run.weights
    assert run.load(tmp_path) == State()
    assert same(run.weights, before)
    assert not any(optimiser.state for optimiser in run.optimisers)


def test_before_the_first_step_there_is_nothing_to_remember(tmp_path: Path) -> None:
    run = Run()
    run.save(tmp_path, State())
    other = Run()
    assert other.load(tmp_path) == State()
    run.step(0)
    other.step(0)
    assert same(run.weights, other.weights)


def test_a_later_checkpoint_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    run = Run()
    for number in range(3):
        run.step(number)
        run.save(tmp_path, State(step=number + 1))
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    other = Run()
    assert other.load(tmp_path).step == 3
    assert same(other.weights, run.weights)


def between(folder: Path) -> None:
    """Killed after the old one was moved away, before the new one had its name."""
    (folder / "checkpoint").rename(folder / "checkpoint.old")
    (folder / "checkpoint.new").mkdir()
    (folder / "checkpoint.new/state.json").write_bytes(b"{}")


def half_written(folder: Path) -> None:
    """Killed while the new one was written."""
    (folder / "checkpoint.new").mkdir()
    (folder / "checkpoint.new/state.safetensors").write_bytes(b"\x00" * 100)


def not_cleared(folder: Path) -> None:
    """Killed before the old one was removed, and while that was going on."""
    (folder / "checkpoint.old").mkdir()
    (folder / "checkpoint.old/state.json").write_bytes(b'{"step": 1}')


@pytest.mark.parametrize("killed", [between, half_written, not_cleared])
def test_one_that_was_killed_goes_on_from_a_whole_one(tmp_path: Path, killed: Callable[[Path], None]) -> None:
    run = Run()
    run.step(0)
    run.save(tmp_path)
    killed(tmp_path)
    other = Run()
    assert other.load(tmp_path) == STATE
    assert same(other.weights, run.weights)
    other.step(1)
    other.save(tmp_path, State(step=2))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"], "what was left is cleared away"
    assert Run().load(tmp_path).step == 2


def test_nothing_that_can_run_code_is_in_it(tmp_path: Path) -> None:
    run = Run()
    run.step(0)
    run.save(tmp_path)
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == {"state.json", "state.safetensors"}
    names = (tmp_path / "checkpoint/state.safetensors").read_bytes()[8:2000]
    for name in NAMES:
        assert f'"model/{name}"'.encode() in names
        assert f'"optimiser/0/{name}/exp_avg_sq"'.encode() in names
