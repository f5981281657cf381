"""split: rows to learn from and rows held out, with no near-duplicate question on both sides."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Generic

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadData
from freehold.data.grouping import group_texts
from freehold.data.normal import normal, plain
from freehold.data.rows import AnyRow, R


class Split(msgspec.Struct, Generic[R], frozen=True):
    """Both sides, each in an order drawn from seed and content, and how they were kept apart."""

    train: tuple[R, ...]
    held_out: tuple[R, ...]
    groups: int
    """Groups of near-duplicate questions; each is wholly on one side."""
    threshold: float
    """Similarity from which questions count as near-duplicates."""
    exact: bool = False
    """Whether those that differ in numbers, symbols or the order of words alone count as different."""


def split(rows: Sequence[R], held_out: float, seed: int) -> tuple[tuple[R, ...], tuple[R, ...]]:
    """(train, held out). `held_out` below 1 is a share, otherwise a number of rows. Raises BadData.

    Depends on the rows' content and the seed, not on their order.
    """
    parts = divide(rows, held_out, seed)
    return parts.train, parts.held_out


def divide(rows: Sequence[R], held_out: float, seed: int) -> Split[R]:
    """As `split`, with the figures. Answers play no part: thousands of questions may share one."""
    wanted = round(len(rows) * held_out) if held_out < 1 else int(held_out)
    if not 0 < wanted < len(rows):
        raise BadData(
            f"{wanted} of {len(rows)} rows cannot be held out",
            "Set [data] held_out to a share such as 0.1 or fewer rows",
        )
    # A group that is larger than either side leaves one of them to what happens to lie beside it.
    beside = min(wanted, len(rows) - wanted)
    grouping = group_texts([normal(row.question) for row in rows], beside)
    exact = grouping.swallows(beside)
    keys = _told_apart(grouping.group, rows) if exact else grouping.group
    members: dict[Hashable, list[tuple[str, R]]] = defaultdict(list)
    for number, row in zip(keys, rows, strict=True):
        members[number].append((_hash(row, seed), row))
    # A group's place is the least of its members' hashes: as good as drawn, and the same in any order of rows.
    groups = sorted((sorted(group, key=_place) for group in members.values()), key=lambda group: group[0][0])
    chosen = _choose([len(group) for group in groups], wanted)
    if not chosen or len(chosen) == len(groups):
        raise BadData(
            f"{len(rows)} rows all ask the same: none can be held out",
            "Add rows that ask something else, or name a file to hold out: [data] held_out_path",
        )
    sides: tuple[list[tuple[str, R]], list[tuple[str, R]]] = ([], [])
    for number, group in enumerate(groups):
        sides[number in chosen].extend(group)
    train, held = (tuple(row for _, row in sorted(side, key=_place)) for side in sides)
    return Split(train, held, len(groups), grouping.threshold, exact)


def _told_apart(group: Sequence[int], rows: Sequence[AnyRow]) -> list[Hashable]:
    """The groups, the largest of them parted by what its questions say to the letter: sums, order numbers, emoji."""
    ((largest, _),) = Counter(group).most_common(1)
    pairs = zip(group, rows, strict=True)
    return [(number, plain(row.question)) if number == largest else number for number, row in pairs]


def _place(member: tuple[str, AnyRow]) -> str:
    return member[0]


def _choose(sizes: Sequence[int], wanted: int) -> set[int]:
    """Numbers of groups whose sizes sum to `wanted`, as nearly as taking them in order allows; never none."""
    chosen: set[int] = set()
    total = 0
    for number, size in enumerate(sizes):
        if total + size <= wanted:
            chosen.add(number)
            total += size
    return chosen or {min(range(len(sizes)), key=lambda number: sizes[number])}


def sample(rows: Sequence[R], count: int, seed: int) -> tuple[R, ...]:
    """At most `count` of the rows, drawn by content and seed whatever their order."""
    return tuple(sorted(rows, key=lambda row: _hash(row, seed))[:count])


def _hash(row: AnyRow, seed: int) -> str:
    return Digest.of_bytes(f"{seed}:".encode() + row.encode()).hex
