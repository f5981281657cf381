"""GRPO: several answers to a prompt are drawn; those that are worth more than their mean become likelier.

Source: Shao et al. 2024, arXiv 2402.03300; the loss is a mean over tokens (Yu et al. 2025, arXiv 2503.14476).
"""

import sys
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from freehold.data.rows import AnyRow, Prompt
from freehold.tuning.batches import windows
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.render import Renderer, Sample


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
        if torch.is_grad_enabled():
            [whole] = parts(policy, examples, sys.maxsize)
            return whole
        return -torch.stack([policy.draw(example).worth for example in examples]).mean()

    def weight(self, examples: Sequence[Example]) -> float:
        """Their number."""
        return float(len(examples))


def parts(policy: Policy, examples: Sequence[Example], tokens: int) -> Iterator[Tensor]:
    """The loss of new answers in parts, whose sum it is: each of at most so many tokens, those of prompts included."""
    drawn = [policy.draw(example) for example in examples]
    worth = torch.stack([group.worth for group in drawn])
    gain = worth - worth.mean(1, keepdim=True)
    advantage = (gain / (worth.std(1, keepdim=True) + 1e-4)).flatten()
    samples = [sample for group in drawn for sample in group.samples]
    answered = sum(weight > 0 for sample in samples for weight in sample.weights[1:])
    for part in windows(range(len(samples)), [len(sample.ids) for sample in samples], tokens):
        yield _pulled(policy, [samples[index] for index in part], advantage[part]) / answered


def _pulled(policy: Policy, samples: Sequence[Sample], advantage: Tensor) -> Tensor:
    """The sum over the tokens of some answers."""
    now, first, owner = policy.compared(samples)
    pull = advantage[owner] * torch.exp(now - now.detach())
    away = torch.exp(first - now) - (first - now) - 1
    return (policy.beta * away - pull).sum()


OBJECTIVE = Grpo()
