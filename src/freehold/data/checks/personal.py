"""Personal data in rows: which lines hold some, and how much of each kind. Never what it says."""

from collections import Counter

from freehold.data import pii
from freehold.data.checks import Check, Found, Material


def run(material: Material) -> Found:
    """A finding for each kind, and the counts."""
    counts: Counter[str] = Counter()
    for row in (*material.rows, *material.held_out):
        counts += pii.kinds_in(row)
    facts = {f"pii.{kind}": counts[kind] for kind in pii.KINDS}
    return Found(tuple(pii.kept(material.rows, material.unit)), dict(facts))


CHECK = Check(40, run)
