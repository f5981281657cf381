"""Two texts a record that belong together: sentence-transformers' and BGE's forms, for embedding models."""

import math
from typing import Any

from freehold.core.errors import BadData
from freehold.data import columns as by_column
from freehold.data import conversations
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Pair
from freehold.data.shapes import Look, Plan, Shape

_FORMS = (
    ("anchor", "positive"),
    ("query", "positive"),
    ("query", "pos"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "passage"),
    ("sentence1", "sentence2"),
)
_ASKED = (("query", "answer"), ("question", "answer"), ("question", "context"), ("text1", "text2"))
"""Forms that are pairs only where somebody says so."""
_NEGATIVES = ("negative", "negatives", "neg")
_SCORES = ("score", "similarity", "similarity score")


def _roles(look: Look) -> dict[str, str]:
    """Anchor, positive, negative and score to their columns; empty where the first two have none."""
    found = {role: look.named[role] for role in ("anchor", "positive", "negative", "score") if role in look.named}
    for form in (*_FORMS, *(_ASKED if look.kind == "pair" else ())):
        columns = [by_column.first(look.columns, (name,)) for name in form]
        if all(columns):
            found = {"anchor": columns[0] or "", "positive": columns[1] or "", **found}
            break
    if "anchor" not in found or "positive" not in found:
        return {}
    more = {"negative": look.column("negative", *_NEGATIVES), "score": look.column("score", *_SCORES)}
    return {**{role: column for role, column in more.items() if column}, **found}


def _likelihood(look: Look) -> int:
    return 93 if _roles(look) else 0


def _plan(look: Look) -> Plan:
    found = _roles(look)

    def make(record: Record, line: int, log: Log) -> tuple[Pair, ...]:
        anchor = by_column.text(record, found["anchor"])
        positives, negatives = (_texts(record, found.get(role)) for role in ("positive", "negative"))
        if not anchor or not positives:
            log.empty("pair{s} with an empty side", line)
        if not anchor:
            return ()
        score = _score(record, found.get("score"))
        _check(anchor, positives, negatives, scored=score is not None)
        return tuple(Pair(anchor, positive, negatives, score, line) for positive in positives)

    return Plan(make, found)


def _texts(record: Record, column: str | None) -> tuple[str, ...]:
    value: Any = record.get(column) if column else None
    texts = [by_column.text({"": each}, "") for each in (value if conversations.is_list(value) else [value])]
    return tuple(text for text in texts if text)


def _check(anchor: str, positives: tuple[str, ...], negatives: tuple[str, ...], *, scored: bool) -> None:
    """Raises BadData for a row from which nothing can be told."""
    if anchor in positives and not scored:
        raise BadData("has the same text on both sides", "Give another text that belongs to it, or leave the row out")
    if set(positives) & set(negatives):
        raise BadData("has a text that belongs to it and does not", "Leave it out of the negatives")


def _score(record: Record, column: str | None) -> float | None:
    value: Any = record.get(column) if column else None
    if value is None or value == "":
        return None
    try:
        score = float(value)
    except (TypeError, ValueError) as error:
        raise BadData(f"has the score {value!r}", "A score is a number") from error
    if not math.isfinite(score):
        raise BadData(f"has the score {value!r}", "A score is a finite number")
    return score


SHAPE = Shape("pairs", "pair", _likelihood, _plan)
