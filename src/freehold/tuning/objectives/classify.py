"""Classification: a head on the last token of a text says which of the labels it has."""

from array import array
from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn.functional import cross_entropy

from freehold.data.rows import AnyRow, Labelled
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.render import Renderer, Sample


class Classify:
    """Cross-entropy of the right label."""

    rows: type[AnyRow] = Labelled
    compares = False
    apart = True

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """One for each text, with its label as `reference`."""
        labelled = [row for row in rows if isinstance(row, Labelled)]
        made = renderer.whole([row.text for row in labelled])
        for index, (row, (ids, cut)) in enumerate(zip(labelled, made, strict=True)):
            weights = array("f", [0.0] * (len(ids) - 1) + [1.0] * bool(ids))
            yield Example((Sample(array("i", ids), weights, cut),), index, reference=row.label, whole=True)

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """The mean over texts."""
        scores, labels = policy.classified(examples)
        return cross_entropy(scores, labels)

    def weight(self, examples: Sequence[Example]) -> float:
        """Their number."""
        return float(len(examples))


OBJECTIVE = Classify()
