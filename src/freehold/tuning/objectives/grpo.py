"""GRPO: several answers to a prompt are drawn; those that are worth more than their mean become likelier.

Source: Shao et al. 2024, arXiv 2402.03300; the loss is a mean over tokens (Yu et al. 2025, arXiv 2503.14476).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from freehold.data.rows import AnyRow, Prompt
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.render import Renderer


class Grpo:
    """-advantage * likelihood of each token + beta * how far it is from the model that training began with."""

    rows: type[AnyRow] = Prompt
    compares = True
    apart = False

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """The prompts alone."""
        prompts = [row for row in rows if isinstance(row, Prompt)]
        for number, (row, sample) in enumerate(zip(prompts, renderer.prompts(prompts), strict=True)):
            yield Example((sample,), number, question=row.question, reference=row.reference)

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """Of new answers. Without gradients it is minus their mean worth."""
        drawn = [policy.draw(example) for example in examples]
        worth = torch.stack([group.worth for group in drawn])
        if not torch.is_grad_enabled():
            return -worth.mean()
        gain = worth - worth.mean(1, keepdim=True)
        advantage = gain / (worth.std(1, keepdim=True) + 1e-4)
        samples = [sample for group in drawn for sample in group.samples]
        now, first, owner = policy.compared(samples)
        pull = advantage.flatten()[owner] * torch.exp(now - now.detach())
        away = torch.exp(first - now) - (first - now) - 1
        return (policy.beta * away - pull).mean()

    def weight(self, examples: Sequence[Example]) -> float:
        """Their number."""
        return float(len(examples))


OBJECTIVE = Grpo()
