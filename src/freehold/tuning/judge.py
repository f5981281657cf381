"""A local model as a judge: it grades each answer by a rubric, through the engine that serves it.

Source: Zheng et al. 2023, arXiv 2306.05685; the mean over the likely grades: Liu et al. 2023, arXiv 2303.16634.
"""

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

from freehold.core.errors import WorkerFailed
from freehold.core.event import Event, Failed, Logprobs, Text, TokenLogprob
from freehold.core.request import Constraint, Message, Request, Sampling
from freehold.core.settings import Settings
from freehold.engines.base import Engine, ModelFile, Worker
from freehold.tuning.job import Judge
from freehold.tuning.rewards import Answer

_ASKED = """\
Grade an answer by a rubric, with one digit from 0 (nothing of the rubric is met) to 9 (all of it is met).

Rubric:
{rubric}

Question:
{question}
{reference}
Answer:
{answer}

Say the digit alone."""
_HIGHEST = 9
_ALTERNATIVES = 200
"""Likeliest tokens among which digits are looked for."""
_CONTEXT = 8192
_DEADLINE = 3600.0


class Grader:
    """Grades answers, from 0 to 1, by the model in `judge`, which is loaded when first asked. A context manager."""

    def __init__(self, judge: Judge, home: Path, threads: int, engine: Engine | None = None) -> None:
        self._judge, self._engine = judge, engine
        self._settings = Settings(home=home, threads=threads, parallel=1, context_length=_CONTEXT)
        self._loop = asyncio.Runner()
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._loop.run(self._worker.stop())
        self._loop.close()

    def __call__(self, answers: Sequence[Answer]) -> list[float]:
        """What each answer is worth. Raises WorkerFailed, BadModelFile, NotEnoughMemory, ContextOverflow."""
        return self._loop.run(self._grades(answers))

    async def _grades(self, answers: Sequence[Answer]) -> list[float]:
        """One after the other: answers that share a batch are rounded by chance."""
        worker = self._worker or await self._start()
        self._worker = worker
        return [await self._grade(worker, answer) for answer in answers]

    async def _start(self) -> Worker:
        from freehold.engines.llamacpp import LlamaCpp

        judge, engine = self._judge, self._engine or LlamaCpp()
        file = ModelFile(judge.path, judge.name, chat_template=judge.template, adapters=judge.adapters)
        return await engine.start(file, self._settings)

    async def _grade(self, worker: Worker, answer: Answer) -> float:
        said, likely = "", list[TokenLogprob]()
        async with aclosing(worker.generate(_request(self._judge, answer))) as events:
            async for event in events:
                said, likely = _heard(event, said, likely)
        if not (said.isascii() and said.isdigit()):
            raise WorkerFailed(f"the judge {self._judge.name} gave no grade but {said[:40]!r}", "Take another judge")
        grades = dict(_digits(likely)) or {int(said): 1.0}
        return sum(grade * mass for grade, mass in grades.items()) / sum(grades.values()) / _HIGHEST


def _request(judge: Judge, answer: Answer) -> Request:
    reference = f"\nA right answer:\n{answer.reference}\n" if answer.reference else ""
    asked = _ASKED.format(rubric=judge.rubric, question=answer.prompt, reference=reference, answer=answer.text)
    return Request(
        model=judge.name,
        messages=(Message("user", asked),),
        constraint=Constraint("grammar", grammar="root ::= [0-9]"),
        sampling=Sampling(temperature=0.0, top_k=1, seed=0),
        max_tokens=4,
        logprobs=_ALTERNATIVES,
        think=False,
        deadline=_DEADLINE,
    )


def _heard(event: Event, said: str, likely: list[TokenLogprob]) -> tuple[str, list[TokenLogprob]]:
    """What is said so far, and the alternatives to its first token."""
    if isinstance(event, Failed):
        raise event.error
    if isinstance(event, Text):
        return said + event.text, likely
    if isinstance(event, Logprobs) and not likely and event.tokens:
        return said, list(event.tokens[0].top)
    return said, likely


def _digits(likely: Sequence[TokenLogprob]) -> Iterator[tuple[int, float]]:
    """The grades among the likely tokens with their probabilities, the rarer spellings of each first."""
    for token in sorted(likely, key=lambda token: token.logprob):
        text = token.token.strip()
        if len(text) == 1 and text.isascii() and text.isdigit():
            yield int(text), math.exp(token.logprob)
