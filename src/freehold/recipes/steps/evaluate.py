"""evaluate: base, tuned and each quantised model answer the held-out questions, or find what belongs to texts."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from freehold import data
from freehold.core.digest import Digest
from freehold.core.errors import BadData
from freehold.data.rows import Pair
from freehold.engines.base import ModelFile, Worker
from freehold.proofs.evaluate import Evaluation, evaluate
from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.convert import ADAPTER, MODEL, TEMPLATE
from freehold.recipes.steps.data import HELD_OUT
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store

if TYPE_CHECKING:
    from freehold.proofs.retrieval import Retrieval

REPORT = "evaluation.json"
PARALLEL = 1
"""Answers at the same time. More share the batches of one calculation, whose rounding then depends on chance."""


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task for each model file."""
    asked = {key: value for key, value in msgspec.structs.asdict(file.recipe.evaluate).items() if key != "compared"}
    parameters = {**asked, **({"of": "vectors"} if file.recipe.tune.embeds else {})}
    if file.recipe.tune.method != "scratch":
        yield Task("evaluate base", "evaluate", ("convert base", "data"), parameters)
    yield Task("evaluate tuned", "evaluate", ("convert tuned", "data"), parameters)
    for kind in file.recipe.quantize.types:
        yield Task(f"evaluate {kind}", "evaluate", (f"quantize {kind}", "data"), parameters)


def run(work: Work) -> Result:
    """The report with every answer, and how fast they came."""
    made = work.inputs[work.task.needs[0]]
    subject = made.file(ADAPTER if made.has(ADAPTER) else MODEL).digest
    if work.recipe.tune.embeds:
        return _ranked(work, subject)
    asked = work.recipe.evaluate
    rows = data.sample(asked_of(work.input(HELD_OUT, "data")), asked.rows, work.recipe.tune.seed)
    found = asyncio.run(_evaluation(work, rows))
    report = work.keep_bytes(found.report(subject, asked.max_tokens), REPORT)
    return Result(files=(report,), facts=_facts(found, len(rows)))


def _ranked(work: Work, subject: Digest) -> Result:
    """The same for a model of vectors."""
    kept = data.read_kind(work.input(HELD_OUT, "data"), Pair)
    rows = data.sample(kept, work.recipe.evaluate.rows, work.recipe.tune.seed)
    found = asyncio.run(_retrieval(work, rows))
    notes = [f"{found.cut} texts do not fit the context and lost their end"] if found.cut else []
    speed = found.speed
    facts = {"tokens_per_second": speed.tokens_per_second, "seconds": speed.seconds, "notes": notes}
    return Result(files=(work.keep_bytes(found.report(subject), REPORT),), facts=facts)


async def _retrieval(work: Work, rows: tuple[Pair, ...]) -> "Retrieval":
    from freehold.proofs.retrieval import measure

    async with _worker(work) as worker:
        return await measure(
            worker, rows, on_progress=lambda done, total: work.moved(done / total, f"{done}/{total} texts")
        )


def asked_of(path: Path) -> list[data.Row]:
    """The held-out questions with the answers that are wanted. Raises BadData for rows that have none, as texts."""
    kept = data.read_any(path)
    rows = [row for row in map(data.as_chat, kept) if row is not None]
    if not rows:
        raise BadData(
            f"the held-out {kept[0].kind if kept else 'side'} rows have no answers to measure a model by",
            "Tune alone: freehold tune",
        )
    return rows


async def _evaluation(work: Work, rows: tuple[data.Row, ...]) -> Evaluation:
    async with _worker(work) as worker:
        return await evaluate(
            worker,
            rows,
            max_tokens=work.recipe.evaluate.max_tokens,
            parallel=PARALLEL,
            on_progress=lambda done, total: work.moved(done / total, f"{done}/{total} answers"),
        )


@asynccontextmanager
async def _worker(work: Work) -> AsyncIterator[Worker]:
    """A worker of the model that the task is about."""
    model = _model(work, work.task.needs[0])
    settings = msgspec.structs.replace(
        work.settings, parallel=PARALLEL, context_length=work.recipe.evaluate.context_length
    )
    worker = await work.tools.engine().start(model, settings)
    try:
        yield worker
    finally:
        await worker.stop()


def _model(work: Work, source: str) -> ModelFile:
    """The file with what belongs beside it."""
    made = work.inputs[source]
    return ModelFile(
        work.input(MODEL, source),
        work.task.name,
        embedding=work.recipe.tune.embeds,
        chat_template=work.input(TEMPLATE, source).read_text("utf-8") if made.has(TEMPLATE) else "",
        adapters=(work.input(ADAPTER, source),) if made.has(ADAPTER) else (),
    )


def _facts(found: Evaluation, rows: int) -> dict[str, object]:
    notes = []
    if found.count("length"):
        notes.append(f"{found.count('length')} of {rows} answers were cut at max_tokens or at the end of the context")
    if found.count("too_long"):
        notes.append(f"{found.count('too_long')} of {rows} questions do not fit the context and count as not answered")
    return {"tokens_per_second": found.speed.tokens_per_second, "seconds": found.speed.seconds, "notes": notes}


STEP = Step("evaluate", tasks, run, rooms=("proofs", "engines", "data"), packages=("xllamacpp",), order=30)
