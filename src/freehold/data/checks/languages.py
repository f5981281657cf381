"""The languages that rows are written in, as guessed."""

from collections import Counter

from freehold.data.checks import Check, Found, Material, Value
from freehold.data.language import guess
from freehold.data.rows import AnyRow

MOST = 20_000
"""Rows that are looked at, evenly taken."""


def run(material: Material) -> Found:
    """Counts of each language, of question and answer together."""
    step = max(1, -(-len(material.rows) // MOST))
    looked_at = material.rows[::step]
    counts = Counter(guess(_said(row)) for row in looked_at)
    ordered = tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
    facts: dict[str, Value] = {"language": ordered[0][0], "language.share": round(ordered[0][1] / len(looked_at), 4)}
    return Found(facts=facts, tables={"languages": ordered})


def _said(row: AnyRow) -> str:
    return f"{row.question[:1000]}\n{row.answer[:1000]}"


CHECK = Check(50, run)
