"""Rows that say nearly the same as another: more weight for what they say, and no more to learn."""

from freehold.data.checks import Check, Found, Material, Value
from freehold.data.findings import finding
from freehold.data.grouping import group_texts
from freehold.data.normal import plain
from freehold.data.rows import AnyRow

MOST = 200_000
"""Rows that are compared; beyond them it takes minutes."""


def run(material: Material) -> Found:
    """Rows whose question and answer are both those of an earlier row but for a few words."""
    rows = material.rows[:MOST]
    questions, answers = (group_texts([plain(side(row)) for row in rows]) for side in (_question, _answer))
    first: dict[tuple[int, int], int] = {}
    near = []
    for group, row in zip(zip(questions.group, answers.group, strict=True), rows, strict=True):
        if first.setdefault(group, row.line) != row.line:
            near.append((row.line, f"like {first[group]}"))
    text = "row{s} ask{v} and answer{v} nearly the same as another"
    found = (finding("near", "kept", text, near, material.unit),) if near else ()
    facts: dict[str, Value] = {"near_duplicates": len(near), "near_duplicates.similarity": questions.threshold}
    return Found(found, facts if len(rows) == len(material.rows) else {**facts, "near_duplicates.compared": len(rows)})


def _question(row: AnyRow) -> str:
    return row.question


def _answer(row: AnyRow) -> str:
    return row.answer


CHECK = Check(20, run)
