"""Embedding models: the vector of a text comes nearer to that of the text that belongs to it than to all others.

Sources: for pairs without scores the other texts of a step are what is not meant (Henderson et al. 2017, arXiv
1705.00652; sentence-transformers' MultipleNegativesRankingLoss); with scores their order counts (CoSENT, Su 2022,
https://kexue.fm/archives/8847; sentence-transformers' CoSENTLoss).
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from freehold.data.rows import AnyRow, Pair
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.objectives.dpo import flat
from freehold.tuning.render import Renderer, Sample


class Embed:
    """Cross-entropy of the text that belongs to each; for pairs with scores, log(1 + sum exp(wrongly ordered))."""

    rows: type[AnyRow] = Pair
    compares = False
    apart = False

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """The texts of each row: the first, what belongs to it, what does not. `label` is its score, else no number."""
        pairs = [row for row in rows if isinstance(row, Pair)]
        made = renderer.whole([text for row in pairs for text in (row.anchor, row.positive, *row.negatives)])
        for index, row in enumerate(pairs):
            texts = [_sample(*next(made)) for _ in range(2 + len(row.negatives))]
            score = math.nan if row.score is None else row.score
            yield Example(tuple(texts), index, label=score, whole=True)

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """The mean over pairs; of scored ones the loss of their order."""
        begins = _begins(examples)
        vectors = policy.embedded(flat(examples))
        firsts, seconds = vectors[begins], vectors[begins + 1]
        if scored(examples):
            return _disorder(policy.scale * (firsts * seconds).sum(1), [example.label for example in examples])
        others = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
        others[torch.cat([begins, begins + 1])] = False
        choices = torch.cat([seconds, vectors[others]])
        found = policy.scale * firsts @ choices.T
        found = found.masked_fill(_meant(examples).to(found.device), -math.inf)
        return cross_entropy(found, torch.arange(len(examples), device=found.device))

    def weight(self, examples: Sequence[Example]) -> float:
        """Their number."""
        return float(len(examples))


def scored(examples: Sequence[Example]) -> bool:
    """Whether pairs say how much they belong together."""
    return not math.isnan(examples[0].label)


def key(sample: Sample) -> bytes:
    """The same for texts of the same tokens."""
    return sample.ids.tobytes()


def _sample(ids: list[int], cut: bool) -> Sample:
    return Sample(array("i", ids), array("f", [1.0] * len(ids)), cut)


def _begins(examples: Sequence[Example]) -> Tensor:
    """Where the texts of each example begin, [examples]."""
    counts = torch.tensor([len(example.samples) for example in examples])
    return pad(counts.cumsum(0)[:-1], (1, 0))


def _disorder(cosines: Tensor, scores: Sequence[float]) -> Tensor:
    """How far pairs are from the order of their scores: each that is nearer than one of a higher score counts."""
    wanted = torch.tensor(scores, dtype=torch.float64, device=cosines.device)
    above = wanted[:, None] > wanted[None, :]
    wrong = (cosines[None, :] - cosines[:, None])[above]
    return torch.logsumexp(pad(wrong, (1, 0)), 0)


def _meant(examples: Sequence[Example]) -> Tensor:
    """Which choices are no wrong ones, [examples, choices]: they say what belongs to the first text too, or that text.

    Choices are the second text of each example, then all texts that do not belong to theirs.
    """
    choices = [key(example.samples[1]) for example in examples]
    choices += [key(sample) for example in examples for sample in example.samples[2:]]
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, choice in enumerate(choices):
        places[choice].append(place)
    right: dict[bytes, set[bytes]] = defaultdict(set)
    for example in examples:
        first = key(example.samples[0])
        right[first] |= {first, key(example.samples[1])}
    meant = torch.zeros(len(examples), len(choices), dtype=torch.bool)
    for row, example in enumerate(examples):
        for each in right[key(example.samples[0])]:
            meant[row, places[each]] = True
        meant[row, row] = False
    return meant


OBJECTIVE = Embed()
