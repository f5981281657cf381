"""Classes: how often each answer occurs, where answers are few and short, or are labels."""

from collections import Counter
from collections.abc import Iterator

from freehold.data.checks import Check, Found, Material
from freehold.data.findings import Finding
from freehold.data.rows import AnyRow, Judged, Labelled

MOST, LONGEST, EACH = 50, 60, 5
"""Answers of at most so many characters count as classes when there are at most so many of them, each so often."""
_RARE = 5
_HEAVY = 0.9


def run(material: Material) -> Found:
    """Counts of each class, classes that are rare, and one that is nearly all."""
    counts = Counter(map(_label, material.rows))
    if not (material.kind in ("labelled", "judged") or _few(counts, len(material.rows))):
        return Found(facts={"answers": len(counts)} if material.kind in ("chat", "preference") else {})
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    table = tuple((label[:LONGEST], count) for label, count in ordered)
    facts = {"classes": len(counts), "classes.largest": round(ordered[0][1] / len(material.rows), 4)}
    return Found(tuple(_uneven(counts, len(material.rows))), dict(facts), {"classes": table[:MOST]})


def _label(row: AnyRow) -> str:
    if isinstance(row, Judged):
        return "wanted" if row.label else "not wanted"
    return row.label if isinstance(row, Labelled) else row.answer.strip()


def _few(counts: Counter[str], rows: int) -> bool:
    return 1 < len(counts) <= min(MOST, rows // EACH) and max(map(len, counts)) <= LONGEST


def _uneven(counts: Counter[str], rows: int) -> Iterator[Finding]:
    rare = sorted(label for label, count in counts.items() if count < _RARE)
    if rare:
        many = f"{len(rare):,} of {len(counts):,} classes have fewer than {_RARE} rows"
        yield Finding("rare", "kept", sum(counts[label] for label in rare), many)
    heavy = max(counts.values())
    if len(counts) > 1 and heavy > _HEAVY * rows:
        yield Finding("heavy", "kept", heavy, f"{heavy / rows:.0%} of the rows are of one class")


CHECK = Check(60, run)
