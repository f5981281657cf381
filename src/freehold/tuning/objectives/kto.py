"""KTO: answers judged one by one, wanted or not, beside how far the model has moved on the whole.

Source: Ethayarajh et al. 2024, arXiv 2402.01306.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from freehold.data.rows import AnyRow, Judged, Row
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.objectives.dpo import flat
from freehold.tuning.render import Renderer


class Kto:
    """1 - sigmoid(beta * (gain - drift)) for what is wanted, 1 - sigmoid(beta * (drift - gain)) for what is not.

    The drift is how much likelier answers to other prompts became, not below 0; no gradient flows through it.
    """

    rows: type[AnyRow] = Judged
    compares = True
    apart = False

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """Each answer to its own prompt, and the next row's answer to the same prompt."""
        judged = [row for row in rows if isinstance(row, Judged)]
        chats = []
        for row, following in zip(judged, [*judged[1:], *judged[:1]], strict=True):
            prompt = row.messages[:-1]
            for answer in (row.messages[-1], following.messages[-1]):
                weights = (*(0.0,) * len(prompt), 1.0)
                chats.append(Row((*prompt, answer), row.line, row.tools, weights=weights))
        made = renderer.samples(chats)
        for index, (pair, row) in enumerate(zip(zip(made, made, strict=True), judged, strict=True)):
            yield Example(pair, index, label=float(row.label))

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """The mean over examples."""
        sums, _ = policy.answers(flat(examples))
        gain, other = (sums.view(-1, 2) - policy.reference(examples)).unbind(1)
        drift = other.detach().mean().clamp(min=0)
        sign = torch.tensor([1.0 if example.label else -1.0 for example in examples], device=gain.device)
        return (1 - torch.sigmoid(policy.beta * sign * (gain - drift))).mean()

    def weight(self, examples: Sequence[Example]) -> float:
        """Their number."""
        return float(len(examples))


OBJECTIVE = Kto()
