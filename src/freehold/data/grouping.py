"""Groups of near-duplicate texts.

Two texts are near-duplicates when the Jaccard similarity of their sets of words is at least a threshold; groups are
the connected components. In scripts without blanks, pairs of characters are the words. All pairs above the threshold
are found exactly, by prefix filtering (Chaudhuri et al. 2006, Xiao et al. 2008): two sets with similarity t must share
one of their first n - ceil(t n) + 1 words, rarest first.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from freehold.data.normal import pieces

THRESHOLDS = (0.8, 0.9, 1.0)
"""Tried in this order until no chain of near-duplicates swallows the data; 1.0 joins only equal sets of words."""
_MAX_CHARACTERS = 4000
"""Of a text that are compared: similar documents show it earlier."""
_LARGEST = 0.05
_SMALL = 20

_Ints = NDArray[np.int64]


class Grouping(msgspec.Struct, frozen=True):
    """`group` has one number for each text, counted from 0; `threshold` is the one that was used."""

    group: tuple[int, ...]
    threshold: float

    @property
    def count(self) -> int:
        """Groups in all."""
        return max(self.group, default=-1) + 1

    def swallows(self, beside: int) -> bool:
        """Whether one group leaves fewer than so many texts to the others."""
        return len(self.group) - max(Counter(self.group).values(), default=0) < beside


def group_texts(texts: Sequence[str], beside: int = 0) -> Grouping:
    """Group normalised texts, so that the largest group leaves so many to the others if any threshold does that.

    The result does not depend on their order, but for the numbers of the groups.
    """
    bags = _bags(texts)
    distinct = sorted(set(bags), key=sorted)
    numbers = {bag: number for number, bag in enumerate(distinct)}
    limit = max(_SMALL, int(len(distinct) * _LARGEST))
    for threshold in THRESHOLDS:
        roots = _components(distinct, threshold)
        names: dict[int, int] = {}
        found = Grouping(tuple(names.setdefault(roots[numbers[bag]], len(names)) for bag in bags), threshold)
        if max(Counter(roots).values(), default=0) <= limit and not found.swallows(beside):
            break
    return found


def similar(texts: Sequence[str], others: Sequence[str], threshold: float) -> dict[int, int]:
    """For each of the normalised `texts` that has a near-duplicate among `others`: their numbers, the first of those.

    Texts without words have none.
    """
    own, theirs = _bags(texts), _bags(others)
    first = {bag: number for number, bag in reversed(list(enumerate(theirs))) if bag}
    mine = {bag for bag in own if bag}
    near = {bag: number for bag, number in first.items() if bag in mine}
    if threshold < 1.0:
        sought = sorted(mine - set(near), key=sorted)
        known = list(first)
        for number, found in _across(known, sought, threshold):
            near[sought[number]] = min(first[known[each]] for each in found)
    return {number: near[bag] for number, bag in enumerate(own) if bag in near}


def _across(
    known: Sequence[frozenset[str]], sought: Sequence[frozenset[str]], threshold: float
) -> Iterator[tuple[int, list[int]]]:
    """For each set that is sought, its number and those of the known ones that are similar, where there are any."""
    words, starts, sizes = _ranked([*known, *sought])
    index: dict[int, list[int]] = defaultdict(list)
    mark = np.zeros(int(words.max(initial=0)) + 1, dtype=bool)
    for number in range(len(known) + len(sought)):
        own = words[starts[number] : starts[number + 1]]
        prefix = _prefix(own, threshold)
        if number < len(known):
            for word in prefix:
                index[word].append(number)
            continue
        near = set().union(*(index[word] for word in prefix if word in index))
        if near:
            mark[own] = True
            found = _similar(near, mark, len(own), words, starts, sizes, threshold)
            mark[own] = False
            if found:
                yield number - len(known), found


def _prefix(own: _Ints, threshold: float) -> list[int]:
    """The rarest words of a set, of which each similar set shares one."""
    found: list[int] = own[: len(own) - math.ceil(threshold * len(own) - 1e-9) + 1].tolist()
    return found


def _bags(texts: Sequence[str]) -> list[frozenset[str]]:
    return [frozenset(pieces(text[:_MAX_CHARACTERS])) for text in texts]


def _components(bags: Sequence[frozenset[str]], threshold: float) -> list[int]:
    """The root of each set's component."""
    roots = list(range(len(bags)))
    if threshold < 1.0:
        for one, other in _pairs(bags, threshold):
            roots[_root(roots, one)] = _root(roots, other)
    return [_root(roots, number) for number in range(len(bags))]


def _root(roots: list[int], number: int) -> int:
    while roots[number] != number:
        roots[number] = roots[roots[number]]
        number = roots[number]
    return number


def _pairs(bags: Sequence[frozenset[str]], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of sets at least this similar."""
    words, starts, sizes = _ranked(bags)
    order = np.argsort(sizes, kind="stable")
    index: dict[int, list[int]] = defaultdict(list)
    mark = np.zeros(int(words.max(initial=0)) + 1, dtype=bool)
    for number in map(int, order):
        own = words[starts[number] : starts[number + 1]]
        prefix = _prefix(own, threshold)
        near = set().union(*(index[word] for word in prefix if word in index))
        if near:
            mark[own] = True
            yield from ((number, other) for other in _similar(near, mark, len(own), words, starts, sizes, threshold))
            mark[own] = False
        for word in prefix:
            index[word].append(number)


def _similar(
    near: set[int], mark: NDArray[np.bool_], size: int, words: _Ints, starts: _Ints, sizes: _Ints, threshold: float
) -> list[int]:
    """Those of `near` whose similarity to the marked set, of `size` words, reaches the threshold."""
    candidates = np.fromiter(near, dtype=np.int64, count=len(near))
    candidates = candidates[sizes[candidates] >= threshold * size - 1e-9]
    lengths = sizes[candidates]
    ends = np.cumsum(lengths)
    if not len(ends):
        return []
    offsets = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    hits = mark[words[np.repeat(starts[candidates], lengths) + offsets]]
    shared = np.add.reduceat(hits.astype(np.int64), ends - lengths)
    found: list[int] = candidates[shared >= threshold * (size + lengths - shared) - 1e-9].tolist()
    return found


def _ranked(bags: Sequence[frozenset[str]]) -> tuple[_Ints, _Ints, _Ints]:
    """All words as numbers, rarest lowest and first in each set; where each set starts; how many words it has."""
    counts = Counter(word for bag in bags for word in bag)
    rank = {word: number for number, word in enumerate(sorted(counts, key=lambda word: (counts[word], word)))}
    sizes = np.array([len(bag) for bag in bags], dtype=np.int64)
    flat = [number for bag in bags for number in sorted(rank[word] for word in bag)]
    return np.array(flat, dtype=np.int64), np.concatenate(([0], np.cumsum(sizes))), sizes
