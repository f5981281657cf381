"""A model's answers to held-out questions, through the engine that serves it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import ContextOverflow, FreeholdError, WorkerFailed
from freehold.core.event import Failed, Finished, Text, ToolCallPart, Usage
from freehold.core.request import Message, Request, Sampling, ToolCall
from freehold.data import Row
from freehold.data.rows import told
from freehold.engines.base import Worker
from freehold.proofs.facts import Fact
from freehold.proofs.metrics import METRICS, exact_match, token_f1

SCHEMA = 1
DEADLINE = 3600.0
"""Seconds for one answer: a large model on a busy machine is slow, not wrong."""


class Answer(msgspec.Struct, frozen=True):
    """What the model said to one held-out question, and what was hoped for."""

    row: Digest
    """Of the conversation, as in the held-out file."""
    question: str
    reference: str
    answer: str
    ending: str
    """stop, length (cut at max_tokens or at the end of the context), or too_long (the question did not fit)."""
    token_f1: float
    exact_match: float


class Speed(msgspec.Struct, frozen=True):
    """How fast this machine was. Not part of the evidence: another run gives other figures."""

    seconds: float = 0.0
    completion_tokens: int = 0
    generate_ms: float = 0.0
    parallel: int = 1

    @property
    def tokens_per_second(self) -> float:
        """Tokens that one answer gains in a second, as its reader sees it."""
        return 1000 * self.completion_tokens / self.generate_ms if self.generate_ms else 0.0


class Evaluation(msgspec.Struct, frozen=True):
    """All answers, in the order of the questions, and how long they took."""

    answers: tuple[Answer, ...]
    speed: Speed = Speed()

    def mean(self, metric: str) -> float:
        """The mean of a metric of METRICS over all answers."""
        values: list[float] = [getattr(answer, metric) for answer in self.answers]
        return sum(values) / len(values)

    def count(self, ending: str) -> int:
        """Answers that ended so."""
        return sum(answer.ending == ending for answer in self.answers)

    def facts(self, subject: Digest) -> tuple[Fact, ...]:
        """The figures, as facts about the model file `subject`."""
        found: dict[str, int | float] = {"rows": len(self.answers)}
        found |= {metric: round(self.mean(metric), 6) for metric in METRICS}
        found |= {"answers_cut": self.count("length"), "questions_too_long": self.count("too_long")}
        return tuple(Fact(subject, f"evaluation.{name}", value, "verified") for name, value in found.items())

    def report(self, subject: Digest, max_tokens: int) -> bytes:
        """The evidence: facts and every answer as canonical JSON. The same for the same model and questions."""
        content = {
            "schema": SCHEMA,
            "kind": "evaluation",
            "max_tokens": max_tokens,
            "facts": self.facts(subject),
            "answers": self.answers,
        }
        return msgspec.json.encode(content, order="sorted")


async def evaluate(
    worker: Worker,
    rows: Sequence[Row],
    *,
    max_tokens: int,
    parallel: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Ask every row's last question, `parallel` at a time, each answer the likeliest one (temperature 0).

    Raises WorkerFailed. A question that does not fit the context counts as answered with nothing.
    """
    gate = asyncio.Semaphore(parallel)
    done = 0

    async def ask(row: Row) -> tuple[Answer, Speed]:
        nonlocal done
        async with gate:
            answered = await _answer(worker, row, max_tokens)
        done += 1
        on_progress(done, len(rows))
        return answered

    begin = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(row)) for row in rows]
    except* FreeholdError as errors:
        raise errors.exceptions[0] from errors
    results = [task.result() for task in tasks]
    speed = Speed(
        time.monotonic() - begin,
        sum(speed.completion_tokens for _, speed in results),
        sum(speed.generate_ms for _, speed in results),
        parallel,
    )
    return Evaluation(tuple(answer for answer, _ in results), speed)


async def _answer(worker: Worker, row: Row, max_tokens: int) -> tuple[Answer, Speed]:
    request = Request(
        model="evaluated",
        messages=row.messages[:-1],
        tools=row.tools,
        max_tokens=max_tokens,
        # With one candidate left at each token, no draw of random numbers matters.
        sampling=Sampling(temperature=0.0, top_k=1, seed=0),
        deadline=DEADLINE,
    )
    pieces: list[str] = []
    calls: dict[int, ToolCall] = {}
    ending, speed = "", Speed()
    async with aclosing(worker.generate(request)) as events:
        async for event in events:
            if isinstance(event, Text):
                pieces.append(event.text)
            elif isinstance(event, ToolCallPart):
                call = calls.get(event.call, ToolCall("", "", ""))
                calls[event.call] = ToolCall("", call.name + event.name, call.arguments + event.arguments)
            elif isinstance(event, Failed):
                ending = _ending_of(event.error)
            elif isinstance(event, Finished):
                ending = event.reason
                speed = _speed(event.usage, event.timings.generate_ms)
    if not ending:
        raise WorkerFailed("an answer ended without a reason", "Run it again")
    answer = told(Message("assistant", "".join(pieces).strip(), tuple(calls.values())))
    return _measured(row, answer, ending), speed


def _ending_of(error: FreeholdError) -> str:
    if isinstance(error, ContextOverflow):
        return "too_long"
    raise error


def _speed(usage: Usage, generate_ms: float) -> Speed:
    return Speed(0.0, usage.completion_tokens, generate_ms)


def _measured(row: Row, text: str, ending: str) -> Answer:
    reference = row.answer.strip()
    return Answer(
        row=Digest.of_bytes(row.encode()),
        question=_last_question(row.messages),
        reference=reference,
        answer=text,
        ending=ending,
        token_f1=round(token_f1(text, reference), 6),
        exact_match=exact_match(text, reference),
    )


def _last_question(messages: Sequence[Message]) -> str:
    return next((message.content for message in reversed(messages) if message.role == "user"), "")
