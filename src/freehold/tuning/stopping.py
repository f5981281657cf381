"""When held-out losses are measured, and when losses say that training has gone on for long enough, or gone wrong."""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from freehold.formats.atomic import replacing
from freehold.tuning import files
from freehold.tuning.checkpoint import State
from freehold.tuning.job import Cut, HeldOutLoss, TrainJob

_BEST = "best.safetensors"
STEPS = 20
"""Whose mean loss is looked at: a single step's is as its rows are."""
_OVER = 1.1
"""Of the time that is given, at which training ends whatever is left to do."""
_NATS = 2.0
"""By which the loss has risen at least when it has run away."""


def points(steps: int, evaluations: int) -> set[int]:
    """The steps before which the held-out loss is measured, the end included."""
    if evaluations < 2:
        return {steps} if evaluations else set()
    return {steps * part // (evaluations - 1) for part in range(evaluations)}


class Rise:
    """The mean loss of the last steps, and the lowest that it was."""

    def __init__(self, losses: Iterable[float]) -> None:
        self.last: deque[float] = deque(maxlen=STEPS)
        self.lowest = self.mean = math.inf
        for loss in losses:
            self.add(loss)

    def add(self, loss: float) -> None:
        """The next step's."""
        self.last.append(loss)
        if len(self.last) == STEPS:
            self.mean = sum(self.last) / STEPS
            self.lowest = min(self.lowest, self.mean)


def lost(loss: float, lowest: float) -> bool:
    """Whether a loss has doubled from its lowest, and risen by `_NATS` at least: what was known is forgotten."""
    return loss - lowest > max(_NATS, abs(lowest))


def worse(measured: Sequence[HeldOutLoss]) -> str:
    """What to say where the last held-out loss is above the first, the base's; nothing otherwise."""
    if len(measured) < 2 or measured[0].step or measured[-1].loss <= measured[0].loss:
        return ""
    return (
        f"the held-out loss rose from {measured[0].loss:.3f} to {measured[-1].loss:.3f}: the base itself does better; "
        "lower learning_rate, or take fewer steps"
    )


class Ending:
    """Why a run ends before its last step: somebody asks for what it has learned, or its time is well over."""

    def __init__(self, job: TrainJob, spent: float = 0.0) -> None:
        """`spent` is the seconds that planning took."""
        self.request = job.request
        self.left = _OVER * job.seconds - spent if job.seconds else math.inf

    def due(self, state: State, aside: float = 0.0) -> Cut:
        """Looked at before each step but the first: with nothing learned there is nothing to take.

        `aside` is the seconds that went to other things than training.
        """
        if not state.step:
            return ""
        if self.request is not None and self.request.exists():
            return "asked"
        return "time" if state.seconds + aside > self.left else ""


def told(cut: Cut, step: int, steps: int) -> str:
    """What people read of a run that is cut."""
    if cut == "time":
        return f"the time is over at step {step} of {steps}: steps took longer than when they were planned"
    return f"cut short at step {step} of {steps}, as it was asked to; the same command goes on to the end"


class Best:
    """The weights of the lowest held-out loss, kept beside the checkpoints while `patience` may need them."""

    def __init__(self, folder: Path, trained: Mapping[str, nn.Parameter], patience: int) -> None:
        self.path, self.trained, self.patience = folder / _BEST, trained, patience

    def judge(self, state: State) -> bool:
        """Look at the last held-out loss; whether to stop."""
        if not self.patience:
            return False
        losses = [point.loss for point in state.held_out_losses]
        lowest = losses.index(min(losses))
        if lowest == len(losses) - 1:
            self._keep()
            state.best_step = state.step
        return len(losses) - 1 - lowest >= self.patience

    def last(self, state: State) -> None:
        """Look at the held-out loss of weights with which it ends, and which no checkpoint needs to be kept for."""
        if self.patience and state.held_out_losses[-1].loss <= min(point.loss for point in state.held_out_losses):
            state.best_step = state.step

    def take(self, state: State) -> None:
        """Put the best weights into the model, where later ones are worse."""
        from safetensors.torch import load_file

        if not state.held_out_losses or not self.patience or state.best_step == state.step or not self.path.exists():
            return  # what an earlier job in this folder kept is no weights of this one
        with torch.no_grad():
            for name, value in load_file(self.path).items():
                self.trained[name].copy_(value)

    def _keep(self) -> None:
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.trained.items()}
        with replacing(self.path) as temporary:
            files.write(tensors, temporary)
