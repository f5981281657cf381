"""Supervised tuning: the assistant's tokens, as they stand in the rows."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from freehold.data.rows import AnyRow, Row
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.render import Renderer


class Sft:
    """Cross-entropy per weighted token."""

    rows: type[AnyRow] = Row
    compares = False
    apart = True

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """One for each conversation."""
        chats = [row for row in rows if isinstance(row, Row)]
        for index, sample in enumerate(renderer.samples(chats)):
            yield Example((sample,), index)

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """Of all tokens together: a long answer counts more than a short one."""
        return policy.loss([sample for example in examples for sample in example.samples])

    def weight(self, examples: Sequence[Example]) -> float:
        """The tokens' weights."""
        return sum(sum(sample.weights[1:]) for example in examples for sample in example.samples)


OBJECTIVE = Sft()
