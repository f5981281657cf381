"""Checkpoints: everything that the next step depends on, as safetensors and JSON; written whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from freehold.core.digest import Digest
from freehold.core.errors import Damaged
from freehold.tuning import files
from freehold.tuning.job import HeldOutLoss, TrainJob, encode

Trained = Mapping[str, nn.Parameter]
Optimisers = list[torch.optim.Optimizer]
Known = dict[int, torch.Tensor]
"""What the model that training began with says of examples."""
_NUMBERS, _SUMS = "reference/numbers", "reference/sums"
_ELSEWHERE: dict[str, Any] = {
    "out": Path(), "train": Path(), "held_out": None, "base": None, "threads": 0,
    "checkpointing": "auto", "checkpoint_seconds": 60.0, "probe": 0.0,
}  # fmt: skip
"""Where a run lies, and what changes how it gets there but not where to."""


class State(msgspec.Struct):
    """The part of a run that is not weights."""

    step: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    """Of steps alone; 0 in checkpoints of older versions."""
    resumed: int = 0
    losses: list[float] = []
    gradient_norms: list[float] = []
    held_out_losses: list[HeldOutLoss] = []
    steps: int = 0
    """Planned for a time that was given; 0 where none was."""
    best_step: int = 0
    job: str = ""
    """What the run is to do, as `identity` spells it; empty in checkpoints of older versions."""
    dtype: str = ""
    """What products are made in, as a job says it, and what all else is: `auto` is decided once. Empty as above."""
    compute: str = ""


def identity(job: TrainJob) -> str:
    """What the numbers of a run follow from, but for its files: where they lie is no part of it."""
    wanted = msgspec.structs.replace(job, rewards=tuple(map(_named, job.rewards)), **_ELSEWHERE)
    fields = msgspec.json.decode(encode(wanted), type=dict[str, msgspec.Raw])
    # Without a place of its own, since checkpoints are older than it; what is usual counts as if nothing was said.
    del fields["offload"], fields["request"]
    if job.backend == "freehold":
        del fields["backend"]
    return Digest.of_bytes(msgspec.json.encode(fields)).text


def _named(reward: str) -> str:
    """A reward without the folder of its file."""
    file, colon, name = reward.partition(":")
    return f"{Path(file).name}{colon}{name}" if file.endswith(".py") else reward


def save(folder: Path, state: State, trained: Trained, optimisers: Optimisers, known: Known | None = None) -> None:
    """Write a checkpoint and drop the one before it. Raises OSError, with the one before it kept."""
    unfinished = folder / "checkpoint.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write(unfinished, state, _tensors(trained, optimisers) | _references(known or {}))
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    # Two renames: at every instant one of the names holds a whole checkpoint.
    finished, previous = folder / "checkpoint", folder / "checkpoint.old"
    if finished.exists():
        shutil.rmtree(previous, ignore_errors=True)
        finished.rename(previous)
    unfinished.rename(finished)
    _sync(folder)
    shutil.rmtree(previous, ignore_errors=True)


def _write(folder: Path, state: State, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True)
    files.write(tensors, folder / "state.safetensors")
    (folder / "state.json").write_bytes(msgspec.json.encode(state))
    for path in (*folder.iterdir(), folder):
        _sync(path)


def begun(folder: Path, job: str) -> State:
    """What the last whole checkpoint of this `job` says, but for weights; a fresh State for none. Raises Damaged."""
    found = _last(folder, job)
    return State() if found is None else found[1]


def load(folder: Path, trained: Trained, optimisers: Optimisers, known: Known | None = None, *, job: str = "") -> State:
    """Put the last whole checkpoint into all that is given; a fresh State where there is none of this `job`.

    Raises Damaged for files that are no longer what was written.
    """
    from safetensors.torch import load_file

    found = _last(folder, job)
    if found is None:
        return State(job=job)
    path, state = found
    with _undamaged(path):
        _restore(load_file(path / "state.safetensors"), trained, optimisers, {} if known is None else known)
    state.job = job
    return state


def _last(folder: Path, job: str) -> tuple[Path, State] | None:
    """The last whole checkpoint, where it is of this `job`."""
    for path in (folder / "checkpoint", folder / "checkpoint.old"):
        if (path / "state.json").exists():
            with _undamaged(path):
                state = msgspec.json.decode((path / "state.json").read_bytes(), type=State)
            return (path, state) if state.job in ("", job) else None
    return None


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, msgspec.MsgspecError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Damaged(f"the checkpoint {path} is damaged: {reason}", "Remove it to begin anew") from error


def _tensors(trained: Trained, optimisers: Optimisers) -> dict[str, torch.Tensor]:
    names = {id(param): path for path, param in trained.items()}
    tensors = {f"model/{path}": param.detach() for path, param in trained.items()}
    for index, optimiser in enumerate(optimisers):
        for param, values in optimiser.state.items():
            for key, value in values.items():
                tensors[f"optimiser/{index}/{names[id(param)]}/{key}"] = value
    return {key: value.cpu().contiguous() for key, value in tensors.items()}


def _references(known: Known) -> dict[str, torch.Tensor]:
    """Computed again they would differ in their last bits, as they are computed together with other examples."""
    if not known:
        return {}
    return {_NUMBERS: torch.tensor(list(known)), _SUMS: torch.stack(list(known.values()))}


def _restore(tensors: dict[str, torch.Tensor], trained: Trained, optimisers: Optimisers, known: Known) -> None:
    if _NUMBERS in tensors:
        known.update(zip(tensors[_NUMBERS].tolist(), tensors[_SUMS], strict=True))
    with torch.no_grad():
        for path, param in trained.items():
            param.copy_(tensors[f"model/{path}"])
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimiser":
            index, path, name = rest.split("/")
            # Step counters too: fused optimisers keep them where the weights are.
            optimisers[int(index)].state[trained[path]][name] = value.to(trained[path].device)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
