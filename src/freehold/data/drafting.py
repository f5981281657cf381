"""Questions and answers about a text, drafted by a model: what it is asked, and which of its drafts are kept.

A draft is kept when it is a question with an answer whose words stand in the passage. That it is right, nobody knows:
each row says which model wrote it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadData
from freehold.core.request import Constraint, Message, Request, Sampling
from freehold.data.loading import load
from freehold.data.normal import normal, pieces, plain, unspaced
from freehold.data.rows import Row, texts
from freehold.data.sections import sections

LONGEST = 1500
"""Characters of a passage: a page's third, which leaves room for answers in any context."""
_SHORTEST = 80
"""A heading alone says nothing to ask about."""
_GROUNDED = 0.6
"""Share of an answer's longer words that must stand in the passage."""
_LONG_WORD = 4
_TOKENS = 160
"""For each question and answer."""
_ASKED = """\
Write {count} questions that a reader could ask and that this passage answers, each with its answer. Take every answer
from the passage alone. Each question must make sense to somebody who has not seen the passage. Write in the passage's
language. Reply as JSON: {{"pairs": [{{"question": "…", "answer": "…"}}]}}

Passage:
{passage}"""


class Passage(NamedTuple):
    """A piece of the text, and where it stands: page 3, line 120."""

    text: str
    place: str


class Draft(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


class Judged(NamedTuple):
    """What is kept of a model's answer, and why the rest is not."""

    kept: tuple[Draft, ...]
    reasons: tuple[str, ...]


def passages(path: Path) -> list[Passage]:
    """The passages of a PDF, a text or any file of texts. Raises BadData, MissingExtra."""
    found = load(path, kind="text", minimum=1)
    cut = [
        Passage(piece, f"{found.unit} {row.line}")
        for row in found.rows
        for text in texts(row)
        for _, piece in sections(text, LONGEST)
        if len(piece) >= _SHORTEST
    ]
    if not cut:
        raise BadData(f"{path} holds no passage of {_SHORTEST} characters", "Give a longer text")
    return cut


def request(passage: Passage, model: str, *, count: int, seed: int) -> Request:
    """What the model is asked about a passage."""
    return Request(
        model=model,
        messages=(Message("user", _ASKED.format(count=count, passage=passage.text)),),
        constraint=Constraint("schema", schema=_schema(count)),
        sampling=Sampling(temperature=0.0, seed=seed),
        max_tokens=_TOKENS * count,
        think=False,
    )


def judge(text: str, passage: Passage, known: Sequence[str]) -> Judged:
    """The drafts in a model's answer that can be kept. `known` are the plain forms of questions that are there."""
    try:
        pairs = msgspec.json.decode(text, type=_Answer).pairs
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Judged((), ("the answer broke off or is no JSON",))
    kept: list[Draft] = []
    reasons: list[str] = []
    seen = set(known)
    for pair in pairs:
        draft = Draft(pair.question.strip(), pair.answer.strip())
        reason = _wrong(draft, passage, seen)
        seen.add(plain(draft.question))
        if reason:
            reasons.append(reason)
        else:
            kept.append(draft)
    return Judged(tuple(kept), tuple(reasons))


def line(draft: Draft, model: str, source: Digest, place: str) -> bytes:
    """A draft as a row of JSON Lines, marked as what it is."""
    row = Row((Message("user", draft.question), Message("assistant", draft.answer)), synthetic=model)
    marks = {"source": source.text, "place": place}
    return msgspec.json.encode({**msgspec.json.decode(row.encode()), **marks}) + b"\n"


class _Pair(msgspec.Struct):
    question: str
    answer: str


class _Answer(msgspec.Struct):
    pairs: list[_Pair]


def _schema(count: int) -> dict[str, Any]:
    text = {"type": "string"}
    pair = {
        "type": "object",
        "properties": {"question": text, "answer": text},
        "required": ["question", "answer"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"pairs": {"type": "array", "items": pair, "minItems": 1, "maxItems": count}},
        "required": ["pairs"],
        "additionalProperties": False,
    }


def _wrong(draft: Draft, passage: Passage, known: set[str]) -> str:
    """Why a draft is not kept."""
    if len(pieces(normal(draft.question))) < 2 or not normal(draft.answer):
        return "the question or the answer is empty"
    if plain(draft.question) in known:
        return "the question was asked before"
    words = list(_long_words(draft.answer))
    there = set(_long_words(passage.text))
    if words and sum(word in there for word in words) < _GROUNDED * len(words):
        return "the answer says what the passage does not"
    return ""


def _long_words(text: str) -> Iterator[str]:
    return (word for word in pieces(normal(text)) if len(word) >= _LONG_WORD or unspaced(word))
