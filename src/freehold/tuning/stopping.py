"""When held-out losses are measured, and when they say that training has gone on for long enough."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from freehold.formats.atomic import replacing
from freehold.tuning.checkpoint import State

_BEST = "best.safetensors"


def points(steps: int, evaluations: int) -> set[int]:
    """The steps before which the held-out loss is measured, the end included."""
    if evaluations < 2:
        return {steps} if evaluations else set()
    return {steps * part // (evaluations - 1) for part in range(evaluations)}


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

    def take(self, state: State) -> None:
        """Put the best weights into the model, where later ones are worse."""
        from safetensors.torch import load_file

        if not self.patience or state.best_step == state.step or not self.path.exists():
            return
        with torch.no_grad():
            for name, value in load_file(self.path).items():
                self.trained[name].copy_(value)

    def drop(self) -> None:
        """Remove what is kept."""
        self.path.unlink(missing_ok=True)

    def _keep(self) -> None:
        from safetensors.torch import save_file

        tensors = {name: value.detach().cpu().contiguous() for name, value in self.trained.items()}
        with replacing(self.path) as temporary:
            save_file(tensors, temporary)
