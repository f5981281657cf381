"""How well vectors of texts put what belongs together side by side. Metrics as in Thakur et al. 2021 (BEIR)."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
FIRST = 10
"""Places of a list that somebody looks at."""
DIGITS = 6
"""Of cosines. What differs in less is the same: vectors that have all fallen together are in no order."""


class Linked(NamedTuple):
    """Two texts that belong together, by what they are known by, and others that do not belong to the first.

    `score` is not a number where nobody says how much they belong together.
    """

    anchor: Hashable
    positive: Hashable
    negatives: tuple[Hashable, ...] = ()
    score: float = math.nan


def measure(pairs: Sequence[Linked], vectors: Mapping[Any, Vector]) -> dict[str, float]:
    """The figures for some pairs; `vectors` are of length 1, those of all their texts.

    With scores: Spearman's correlation of cosines with them. Else, of looking for each anchor among all positives and
    negatives: recall@1 and @10, the mean reciprocal rank, nDCG@10; each from 0 to 1.
    """
    if any(math.isnan(pair.score) for pair in pairs):
        return retrieval(pairs, vectors)
    cosines = [round(float(vectors[pair.anchor] @ vectors[pair.positive]), DIGITS) for pair in pairs]
    return {"spearman": spearman(cosines, [pair.score for pair in pairs])}


def retrieval(pairs: Sequence[Linked], vectors: Mapping[Any, Vector]) -> dict[str, float]:
    """The means over anchors. Of equally near texts those that do not belong there count as the nearer."""
    found = list(searches(pairs, vectors).values())
    discount = [1 / math.log2(place + 2) for place in range(FIRST)]

    def recall(search: Search, most: int) -> float:
        return sum(place < most for place in search.places) / len(search.places)

    def gain(search: Search) -> float:
        return sum(discount[place] for place in search.places if place < FIRST) / sum(discount[: len(search.places)])

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return {
        "recall_at_1": mean([recall(search, 1) for search in found]),
        "recall_at_10": mean([recall(search, FIRST) for search in found]),
        "mrr": mean([1 / (search.places[0] + 1) for search in found]),
        "ndcg_at_10": mean([gain(search) for search in found]),
    }


class Search(NamedTuple):
    """What was found for an anchor: the places of all that belong to it, from 0, and what came first."""

    places: tuple[int, ...]
    best: Hashable


def searches(pairs: Sequence[Linked], vectors: Mapping[Any, Vector]) -> dict[Hashable, Search]:
    """What is found for each anchor among the other texts of all pairs, that anchor itself left out."""
    right: dict[Hashable, set[Hashable]] = defaultdict(set)
    for pair in pairs:
        right[pair.anchor].add(pair.positive)
    choices = list(dict.fromkeys(text for pair in pairs for text in (pair.positive, *pair.negatives)))
    known = np.stack([vectors[text] for text in choices])
    found = {}
    for anchor, wanted in right.items():
        cosines = (known @ vectors[anchor]).round(DIGITS)
        belongs = np.array([text in wanted for text in choices])
        order = [int(at) for at in np.lexsort((belongs, -cosines)) if choices[at] != anchor or choices[at] in wanted]
        places = tuple(place for place, at in enumerate(order) if belongs[at])
        found[anchor] = Search(places, choices[order[0]])
    return found


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Correlation of two orders, from -1 to 1; 0 where all values of one are the same."""
    ours, theirs = (_ranks(np.asarray(values, np.float64)) for values in (left, right))
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    spread = math.sqrt(float((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / spread if spread else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    mean: NDArray[np.float64] = (ends - (counts + 1) / 2)[place]
    return mean
