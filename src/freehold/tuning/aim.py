"""What an objective adds to the trainer beside its loss: most add nothing, and are this class itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from freehold.tuning.job import TrainJob
from freehold.tuning.objectives.base import Example, Objective

if TYPE_CHECKING:
    from freehold.tuning.policy import Policy


class Aim:
    """One run's. Making it raises BadInput and Unsupported for a job that cannot be done so."""

    def __init__(self, job: TrainJob, base: Path) -> None:
        self.job, self.base = job, base

    def begin(
        self, examples: Sequence[Example], held_out: Sequence[Example], hidden: int, device: torch.device
    ) -> dict[str, nn.Parameter]:
        """What is trained beside the model, by name. Raises BadData for examples that it cannot be learned from."""
        return {}

    def largest(self, epoch: Sequence[Sequence[int]], examples: Sequence[Example]) -> int:
        """Tokens that are computed at once, at most. Raises BadData for steps in which nothing can be learned."""
        return max(sum(self.computed(examples[index]) for index in batch) for batch in epoch)

    def computed(self, example: Example) -> int:
        """Tokens that are computed to learn from an example, at most."""
        return example.tokens

    def losses(self, objective: Objective, policy: "Policy", examples: Sequence[Example]) -> Iterator[torch.Tensor]:
        """A step's loss in parts, whose sum it is: what one keeps is gone once it was learned from."""
        yield objective.loss(policy, examples)

    def equip(self, policy: "Policy") -> None:
        """Give the policy what the objective's loss asks of it."""

    def measured(self, policy: "Policy", examples: Sequence[Example], held_out: Sequence[Example]) -> dict[str, float]:
        """What held-out rows say at the end, beside their loss."""
        return {}

    def saved(self, out: Path) -> Path:
        """Bring the adapter or model that was saved in `out` to its own form; the folder that has it."""
        return out
