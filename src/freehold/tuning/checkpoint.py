"""Checkpoints: everything that the next step depends on, as safetensors and JSON; written whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from torch import nn

from freehold.tuning.job import HeldOutLoss

Trained = Mapping[str, nn.Parameter]
Optimisers = list[torch.optim.Optimizer]


class State(msgspec.Struct):
    """The part of a run that is not weights."""

    step: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    resumed: int = 0
    losses: list[float] = []
    gradient_norms: list[float] = []
    held_out_losses: list[HeldOutLoss] = []
    steps: int = 0
    """Planned for a time that was given; 0 where none was."""
    best_step: int = 0


def save(folder: Path, state: State, trained: Trained, optimisers: Optimisers) -> None:
    """Write a checkpoint and drop the one before it."""
    from safetensors.torch import save_file

    unfinished = folder / "checkpoint.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(_tensors(trained, optimisers), unfinished / "state.safetensors")
    (unfinished / "state.json").write_bytes(msgspec.json.encode(state))
    for path in (*unfinished.iterdir(), unfinished):
        _sync(path)
    # Two renames: at every instant one of the names holds a whole checkpoint.
    finished, previous = folder / "checkpoint", folder / "checkpoint.old"
    shutil.rmtree(previous, ignore_errors=True)
    if finished.exists():
        finished.rename(previous)
    unfinished.rename(finished)
    _sync(folder)
    shutil.rmtree(previous, ignore_errors=True)


def load(folder: Path, trained: Trained, optimisers: Optimisers) -> State:
    """Put the last whole checkpoint into model and optimisers; a fresh State where there is none."""
    from safetensors.torch import load_file

    for name in ("checkpoint", "checkpoint.old"):
        if (folder / name / "state.json").exists():
            tensors = load_file(folder / name / "state.safetensors")
            _restore(tensors, trained, optimisers)
            return msgspec.json.decode((folder / name / "state.json").read_bytes(), type=State)
    return State()


def drop(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for name in ("checkpoint", "checkpoint.old", "checkpoint.new"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _tensors(trained: Trained, optimisers: Optimisers) -> dict[str, torch.Tensor]:
    names = {id(param): path for path, param in trained.items()}
    tensors = {f"model/{path}": param.detach() for path, param in trained.items()}
    for index, optimiser in enumerate(optimisers):
        for param, values in optimiser.state.items():
            for key, value in values.items():
                tensors[f"optimiser/{index}/{names[id(param)]}/{key}"] = value
    return {key: value.cpu().contiguous() for key, value in tensors.items()}


def _restore(tensors: dict[str, torch.Tensor], trained: Trained, optimisers: Optimisers) -> None:
    with torch.no_grad():
        for path, param in trained.items():
            param.copy_(tensors[f"model/{path}"])
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimiser":
            index, path, name = rest.split("/")
            optimiser = optimisers[int(index)]
            # Step counters stay on the CPU, as the optimisers keep them.
            optimiser.state[trained[path]][name] = value if name == "step" else value.to(trained[path].device)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
