"""evaluate: base, tuned and each quantised model answer the held-out questions."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec

from freehold import data
from freehold.core.errors import BadData
from freehold.engines.base import ModelFile
from freehold.proofs.evaluate import Evaluation, evaluate
from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.convert import ADAPTER, MODEL, TEMPLATE
from freehold.recipes.steps.data import HELD_OUT
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store

REPORT = "evaluation.json"
PARALLEL = 1
"""Answers at the same time. More share the batches of one calculation, whose rounding then depends on chance."""


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task for each model file."""
    asked = msgspec.structs.asdict(file.recipe.evaluate)
    parameters = {key: value for key, value in asked.items() if key != "compared"}
    if file.recipe.tune.method != "scratch":
        yield Task("evaluate base", "evaluate", ("convert base", "data"), parameters)
    yield Task("evaluate tuned", "evaluate", ("convert tuned", "data"), parameters)
    for kind in file.recipe.quantize.types:
        yield Task(f"evaluate {kind}", "evaluate", (f"quantize {kind}", "data"), parameters)


def run(work: Work) -> Result:
    """The report with every answer, and how fast they came."""
    made = work.inputs[work.task.needs[0]]
    subject = made.file(ADAPTER if made.has(ADAPTER) else MODEL).digest
    asked = work.recipe.evaluate
    rows = data.sample(asked_of(work.input(HELD_OUT, "data")), asked.rows, work.recipe.tune.seed)
    found = asyncio.run(_evaluation(work, rows))
    report = work.keep_bytes(found.report(subject, asked.max_tokens), REPORT)
    return Result(files=(report,), facts=_facts(found, len(rows)))


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
    model = _model(work, work.task.needs[0])
    settings = msgspec.structs.replace(
        work.settings, parallel=PARALLEL, context_length=work.recipe.evaluate.context_length
    )
    worker = await work.tools.engine().start(model, settings)
    try:
        return await evaluate(
            worker,
            rows,
            max_tokens=work.recipe.evaluate.max_tokens,
            parallel=PARALLEL,
            on_progress=lambda done, total: work.moved(done / total, f"{done}/{total} answers"),
        )
    finally:
        await worker.stop()


def _model(work: Work, source: str) -> ModelFile:
    """The file with what belongs beside it."""
    made = work.inputs[source]
    return ModelFile(
        work.input(MODEL, source),
        work.task.name,
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
