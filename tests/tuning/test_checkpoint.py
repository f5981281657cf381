"""A checkpoint holds all that the next step depends on, and at every instant one of them is whole."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from freehold.core.errors import Damaged
from freehold.tuning import checkpoint
from freehold.tuning.checkpoint import State
from freehold.tuning.job import Architecture, HeldOutLoss, Judge, TrainJob
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


JOB = TrainJob(out=Path("/out"), train=Path("/rows"), base=Path("/base"), rewards=("json", "/home/a/own.py:score"))
ELSEWHERE: dict[str, object] = {
    "out": Path("/other"), "train": Path("/other"), "held_out": Path("/other"), "base": Path("/other"), "threads": 7,
    "checkpointing": "on", "checkpoint_seconds": 1.0, "probe": 9.0, "offload": "on", "request": Path("/other"),
    "rewards": ("json", "/home/b/own.py:score"),
}  # fmt: skip
ANOTHER: dict[str, object] = {
    "method": "dora", "objective": "dpo", "beta": 0.2, "judge": Judge(name="j", path=Path("/j"), rubric="r"),
    "group": 4, "max_answer": 9, "temperature": 0.5, "architecture": Architecture(layers=9), "rank": 8, "alpha": 8.0,
    "learning_rate": 1e-4, "warmup": 0.1, "weight_decay": 0.1, "epochs": 1.0, "steps": 5, "seconds": 9.0,
    "batch_tokens": 99, "batch": 3, "max_length": 99, "prompt_weight": 0.5, "seed": 2, "dtype": "f32", "scale": 9.0,
    "pooling": "last", "backend": "unsloth",
    "base_dtype": "nf4", "evaluations": 2, "patience": 2, "rewards": ("exact", "/home/a/own.py:score"),
}  # fmt: skip


def test_every_setting_either_makes_another_run_or_does_not() -> None:
    assert {*ELSEWHERE, *ANOTHER} == set(TrainJob.__struct_fields__)


@pytest.mark.parametrize("name", sorted({*ELSEWHERE, *ANOTHER}))
def test_a_run_goes_on_only_as_the_job_that_it_was(tmp_path: Path, name: str) -> None:
    run = Run()
    run.step(0)
    run.save(tmp_path, msgspec.structs.replace(STATE, job=checkpoint.identity(JOB)))
    for changes, same_run in ((ELSEWHERE, True), (ANOTHER, False)):
        if name in changes:
            job = msgspec.structs.replace(JOB, **{name: changes[name]})
            other = Run()
            state = checkpoint.load(tmp_path, other.trained, other.optimisers, job=checkpoint.identity(job))
            assert (state.step, same(other.weights, run.weights)) == ((3, True) if same_run else (0, False))


def test_a_checkpoint_of_before_jobs_were_told_apart_is_taken(tmp_path: Path) -> None:
    run = Run()
    run.save(tmp_path)
    assert checkpoint.load(tmp_path, run.trained, run.optimisers, job="sha256:x").job == "sha256:x"


def other_file(path: Path) -> None:
    save_file({"x": torch.ones(1)}, path)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("state.json", lambda path: path.write_bytes(b"")),
        ("state.json", lambda path: path.write_bytes(b'{"step": "three"}')),
        ("state.json", lambda path: path.write_bytes(b"\xff\xfe")),
        ("state.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("state.safetensors", lambda path: path.write_bytes(b"")),
        ("state.safetensors", Path.unlink),
        ("state.safetensors", other_file),
    ],
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str, harm: Callable[[Path], object]) -> None:
    run = Run()
    run.step(0)
    run.save(tmp_path)
    harm(tmp_path / "checkpoint" / name)
    with pytest.raises(Damaged, match=rf"the checkpoint {tmp_path}/checkpoint is damaged: .") as caught:
        Run().load(tmp_path)
    assert caught.value.remedy == "Remove it to begin anew"


def test_a_checkpoint_of_other_shapes_is_named(tmp_path: Path) -> None:
    Run().save(tmp_path)
    wider = {name: nn.Parameter(torch.zeros(9, 9)) for name in NAMES}
    with pytest.raises(Damaged, match="is damaged"):
        checkpoint.load(tmp_path, wider, build(wider, "lora", 0.01, 0.1, torch.float32))


def test_what_the_first_model_said_comes_back_by_its_numbers(tmp_path: Path) -> None:
    run, known = Run(), {3: torch.tensor([1.5, 2.5]), -1: torch.tensor([0.25, 1e-30])}
    checkpoint.save(tmp_path, State(), run.trained, run.optimisers, known)
    found: dict[int, torch.Tensor] = {}
    checkpoint.load(tmp_path, run.trained, run.optimisers, found)
    assert list(found) == [3, -1]
    assert all(torch.equal(found[number], known[number]) for number in known)
