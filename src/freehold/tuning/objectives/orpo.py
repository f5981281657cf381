"""ORPO: the wanted answer is learned, and its odds rise over those of the other; no reference is needed.

Source: Hong et al. 2024, arXiv 2403.07691.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.objectives.dpo import Dpo, flat


class Orpo(Dpo):
    """Cross-entropy of the wanted answer - beta * log sigmoid(log of the ratio of odds), odds being per token."""

    compares = False
    apart = False

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """The mean over examples."""
        sums, counts = policy.answers(flat(examples))
        wanted, other = (sums / counts).view(-1, 2).unbind(1)
        odds = (wanted - other) - (_log1mexp(wanted) - _log1mexp(other))
        learned = -sums[::2].sum() / counts[::2].sum()
        return learned - policy.beta * logsigmoid(odds).mean()


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0."""
    return torch.log(-torch.expm1(x.clamp(max=-1e-6)))


OBJECTIVE = Orpo()
