"""A model's vectors of held-out pairs, through the engine that serves them, and how well they rank."""

import math
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from freehold.core.digest import Digest
from freehold.core.request import EmbedRequest
from freehold.data.rows import Pair
from freehold.engines.base import Worker
from freehold.engines.cutting import cut
from freehold.proofs import ranking
from freehold.proofs.evaluate import DEADLINE, SCHEMA, Speed
from freehold.proofs.facts import Fact


class Found(msgspec.Struct, frozen=True):
    """What became of one held-out pair."""

    row: Digest
    """Of the pair, as in the held-out file."""
    question: str
    reference: str
    """What belongs to it."""
    answer: str
    """What is nearest to it of all texts; with scores, what it was compared with."""
    cosine: float
    """Of question and reference."""
    place: int | None = None
    """Of the reference among all texts, from 1."""
    score: float | None = None
    """How much they belong together, where that is known."""


class Retrieval(msgspec.Struct, frozen=True):
    """What was found for each pair, the figures for all, and how long it took."""

    answers: tuple[Found, ...]
    figures: dict[str, float]
    cut: int
    """Texts that did not fit the context."""
    speed: Speed = Speed()

    def facts(self, subject: Digest) -> tuple[Fact, ...]:
        """The figures, as facts about the model file `subject`."""
        found: dict[str, int | float] = {"rows": len(self.answers)}
        found |= {name: round(value, 6) for name, value in self.figures.items()}
        found |= {"texts_cut": self.cut}
        return tuple(Fact(subject, f"evaluation.{name}", value, "verified") for name, value in found.items())

    def report(self, subject: Digest) -> bytes:
        """The evidence: facts and every pair as canonical JSON. The same for the same model and pairs."""
        content = {"schema": SCHEMA, "kind": "retrieval", "facts": self.facts(subject), "answers": self.answers}
        return msgspec.json.encode(content, order="sorted")


async def measure(
    worker: Worker, rows: Sequence[Pair], *, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Retrieval:
    """Ask for the vector of every text of the rows, one after the other. Raises WorkerFailed.

    More at once would share the batches of one calculation, whose rounding then depends on chance.
    """
    begin = time.monotonic()
    texts = list(dict.fromkeys(text for row in rows for text in (row.anchor, row.positive, *row.negatives)))
    vectors: dict[str, ranking.Vector] = {}
    cuts = tokens = 0
    for done, text in enumerate(texts, 1):
        asked = await cut(worker, text)
        cuts += asked != text
        found = await worker.embed(EmbedRequest(model="evaluated", inputs=(asked,), deadline=DEADLINE))
        vectors[text] = np.asarray(found.vectors[0], np.float32)
        tokens += found.usage.prompt_tokens
        on_progress(done, len(texts))
    seconds = time.monotonic() - begin
    linked = [
        ranking.Linked(row.anchor, row.positive, row.negatives, math.nan if row.score is None else row.score)
        for row in rows
    ]
    answers = _scored(rows, vectors) if rows[0].score is not None else _searched(rows, linked, vectors)
    return Retrieval(tuple(answers), ranking.measure(linked, vectors), cuts, Speed(seconds, tokens, 1000 * seconds))


def _scored(rows: Sequence[Pair], vectors: dict[str, ranking.Vector]) -> list[Found]:
    return [_found(row, row.positive, vectors, score=row.score) for row in rows]


def _searched(
    rows: Sequence[Pair], linked: Sequence[ranking.Linked], vectors: dict[str, ranking.Vector]
) -> list[Found]:
    searches = ranking.searches(linked, vectors)
    return [
        _found(row, str(searches[row.anchor].best), vectors, place=searches[row.anchor].places[0] + 1) for row in rows
    ]


def _found(
    row: Pair, answer: str, vectors: dict[str, ranking.Vector], *, place: int | None = None, score: float | None = None
) -> Found:
    cosine = round(float(vectors[row.anchor] @ vectors[row.positive]), ranking.DIGITS)
    return Found(Digest.of_bytes(row.encode()), row.anchor, row.positive, answer, cosine, place, score)
