"""Checkpoints: at every instant there is a whole one, and only the run that wrote it goes on from it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from freehold.tuning import checkpoint, files
from freehold.tuning.checkpoint import State
from freehold.tuning.job import TrainJob


class Killed(BaseException):
    """In place of SIGKILL: nothing may catch it."""


def parts(value: float) -> tuple[dict[str, nn.Parameter], list[torch.optim.Optimizer], dict[int, torch.Tensor]]:
    """What a run of one weight keeps, after a step of its optimiser."""
    weight = nn.Parameter(torch.full((3,), float(value)))
    optimiser = torch.optim.AdamW([weight])
    weight.grad = torch.ones(3)
    optimiser.step()
    return {"weight": weight}, [optimiser], {-1: torch.tensor([float(value)]), 7: torch.tensor([2.0 * value])}


def save(folder: Path, step: int) -> None:
    checkpoint.save(folder, State(step=step, job="a"), *parts(step))


def loaded(folder: Path, job: str = "a") -> int:
    """The step of what is loaded, all of whose parts must be of that step."""
    trained, optimisers, known = parts(0.0)
    known.clear()
    state = checkpoint.load(folder, trained, optimisers, known, job=job)
    wanted, _, references = parts(state.step)
    assert torch.equal(trained["weight"], wanted["weight"])
    assert known == (references if state.step else {})
    return state.step


def killed_at(monkeypatch: pytest.MonkeyPatch, folder: Path, target: str, step: int) -> None:
    """Die while the step is saved: where tensors are written, or where a folder is renamed to `target`."""
    real = Path.rename

    def rename(self: Path, other: Path) -> Path:
        if other.name == target:
            raise Killed
        return real(self, other)

    def write(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if target:
            patch.setattr(Path, "rename", rename)
        else:
            patch.setattr(files, "write", write)
        with pytest.raises(Killed):
            save(folder, step)


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    assert loaded(tmp_path) == 0
    for step in (1, 2, 3):
        save(tmp_path, step)
        assert loaded(tmp_path) == step
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("target", ["", "checkpoint.old", "checkpoint"])
def test_killed_twice_in_a_row_at_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    save(tmp_path, 1)
    for _ in range(2):
        killed_at(monkeypatch, tmp_path, target, 2)
        assert loaded(tmp_path) == 1
    save(tmp_path, 3)
    assert loaded(tmp_path) == 3


def test_killed_between_the_renames_and_then_before_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    killed_at(monkeypatch, tmp_path, "checkpoint", 2)
    killed_at(monkeypatch, tmp_path, "", 2)
    assert loaded(tmp_path) == 1


def test_a_checkpoint_that_cannot_be_written_leaves_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert loaded(tmp_path) == 1


def test_of_another_run(tmp_path: Path) -> None:
    save(tmp_path, 1)
    assert loaded(tmp_path, "b") == 0
    assert loaded(tmp_path, "a") == 1


def test_of_an_older_version_that_did_not_say(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, State(step=4), *parts(4))
    assert loaded(tmp_path, "b") == 4


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"out": Path("b"), "train": Path("c"), "base": Path("d"), "threads": 3, "checkpoint_seconds": 1.0}, True),
        ({"checkpointing": "on"}, True),
        ({"offload": "on"}, True),
        ({"learning_rate": 1e-3}, False),
        ({"seed": 2}, False),
        ({"steps": 7}, False),
    ],
)
def test_what_makes_a_run_another(changes: dict[str, object], same: bool) -> None:
    fields = {"out": Path("a"), "train": Path("b")}
    one, other = TrainJob(**fields), TrainJob(**(fields | changes))  # type: ignore[arg-type]
    assert (checkpoint.identity(one) == checkpoint.identity(other)) is same


def test_a_file_of_tensors_that_has_no_room_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write({"a": torch.zeros(2)}, tmp_path / "none" / "a.safetensors")
