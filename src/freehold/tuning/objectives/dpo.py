"""DPO: what is wanted becomes likelier than what is not, measured from the model that training began with.

Source: Rafailov et al. 2023, arXiv 2305.18290.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn.functional import logsigmoid

from freehold.data.rows import AnyRow, Preference, Row
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.render import Renderer, Sample


class Dpo:
    """-log sigmoid(beta * (how much likelier the wanted answer became - how much likelier the other did))."""

    rows: type[AnyRow] = Preference
    compares = True
    apart = True

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """Both answers to each prompt, the wanted one first."""
        return both(rows, renderer)

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """The mean over examples."""
        sums, _ = policy.answers(flat(examples))
        gain = sums.view(-1, 2) - policy.reference(examples)
        return -logsigmoid(policy.beta * (gain[:, 0] - gain[:, 1])).mean()

    def weight(self, examples: Sequence[Example]) -> float:
        """Their number."""
        return float(len(examples))


def both(rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
    """Preferences as pairs of conversations, the wanted one first. Only the last answer of each counts."""
    chats = []
    for row in rows:
        if isinstance(row, Preference):
            for answer in (row.chosen, row.rejected):
                weights = (*(0.0,) * len(row.messages), *(1.0,) * len(answer))
                chats.append(Row((*row.messages, *answer), row.line, row.tools, weights=weights))
    made = renderer.samples(chats)
    for index, pair in enumerate(zip(made, made, strict=True)):
        yield Example(pair, index)


def flat(examples: Sequence[Example]) -> list[Sample]:
    """All sequences, an example's side by side."""
    return [sample for example in examples for sample in example.samples]


OBJECTIVE = Dpo()
