"""Supervised tuning: the assistant's tokens, as they stand in the rows."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from freehold.data.rows import AnyRow, Row
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.render import Renderer, Sample


class Sft:
    """Cross-entropy per weighted token."""

    rows: type[AnyRow] = Row
    compares = False
    apart = True

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """One for each conversation."""
        chats = [row for row in rows if isinstance(row, Row)]
        for index, samples in enumerate(renderer.chats(chats)):
            yield Example(_learnable(samples), index)

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """Of all tokens together: a long answer counts more than a short one."""
        return policy.loss([sample for example in examples for sample in example.samples])

    def weight(self, examples: Sequence[Example]) -> float:
        """The tokens' weights."""
        return sum(sum(sample.weights[1:]) for example in examples for sample in example.samples)


def _learnable(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Those that have something to be learned; all where none has. If one was cut, the conversation was."""
    kept = tuple(sample for sample in samples if sample.supervised) or samples
    cut = any(sample.cut for sample in samples)
    return tuple(sample._replace(cut=cut) for sample in kept)


OBJECTIVE = Sft()
