"""Steps of answers that are drawn: how much they are at most, and that they are learned from a part at a time."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from freehold.tuning.aim import Aim
from freehold.tuning.objectives import grpo
from freehold.tuning.objectives.base import Example, Objective

if TYPE_CHECKING:
    from freehold.tuning.policy import Policy


class Answers(Aim):
    """A step has each prompt as often as answers are drawn, with one of them behind it."""

    def largest(self, epoch: Sequence[Sequence[int]], examples: Sequence[Example]) -> int:
        """A step's tokens, or those of a part."""
        longest = max(example.tokens for example in examples) + self.job.max_answer
        return min(super().largest(epoch, examples), max(self.job.batch_tokens, longest))

    def computed(self, example: Example) -> int:
        """Of all its answers, if each is as long as it may be."""
        return self.job.group * (example.tokens + self.job.max_answer)

    def losses(self, objective: Objective, policy: "Policy", examples: Sequence[Example]) -> Iterator[torch.Tensor]:
        """In parts of at most `batch_tokens` tokens."""
        return grpo.parts(policy, examples, self.job.batch_tokens)
