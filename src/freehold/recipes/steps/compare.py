"""compare: are the tuned model's served answers those that the trained model gives?

A conversion that loses something, a chat template that is another one at serving, a token that ends answers too late:
each makes a good model answer badly, and none shows in the loss.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from freehold import data
from freehold.core.digest import Digest
from freehold.data.rows import Row, write_rows
from freehold.proofs.facts import Fact
from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.base import folder_of
from freehold.recipes.steps.convert import ADAPTER, MODEL
from freehold.recipes.steps.data import HELD_OUT
from freehold.recipes.steps.evaluate import REPORT, asked_of
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store
from freehold.tuning.job import Agreed, CompareJob, Progress, Said

AGREEMENT = "agreement.json"
NEAR = 0.05
"""Nats within which it is chance which of two tokens rounding makes the likelier."""


class _Answer(msgspec.Struct):
    row: Digest
    answer: str
    ending: str


class _Answers(msgspec.Struct):
    answers: tuple[_Answer, ...]


class Agreement(NamedTuple):
    """How many answers were compared, and what was found."""

    rows: int
    same: int
    near: int
    """Differ first where two tokens were about as likely."""

    @property
    def share(self) -> float:
        """Of answers that do not differ but by chance."""
        return (self.same + self.near) / self.rows


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, unless none are to be compared."""
    recipe = file.recipe
    parameters = {"compared": recipe.evaluate.compared, "max_tokens": recipe.evaluate.max_tokens}
    if recipe.compares:
        yield Task("compare tuned", "compare", ("evaluate tuned", "convert tuned", "data", *_sources(file)), parameters)


def _sources(file: RecipeFile) -> tuple[str, ...]:
    """What made the model, as the trainer reads it."""
    if file.adapted:
        return "base", "tune"
    return ("merge",) if file.recipe.tune.adapts else ("tune",)


def run(work: Work) -> Result:
    """The report, and how many agree."""
    chosen = list(_chosen(work))
    found = _compared(work, chosen) if chosen else ()
    words = ["same" if each.same else "near" if each.gap <= NEAR else "other" for each in found]
    told = [{"row": answer.row, "agreement": word} for (_, answer), word in zip(chosen, words, strict=True)]
    agreement = Agreement(len(words), words.count("same"), words.count("near"))
    made = work.inputs["convert tuned"]
    subject = made.file(ADAPTER if made.has(ADAPTER) else MODEL).digest
    facts = [Fact(subject, f"agreement.{key}", value, "verified") for key, value in agreement._asdict().items()]
    values = {"schema": 1, "kind": "agreement", "near": NEAR, "facts": facts, "answers": told}
    report = work.keep_bytes(msgspec.json.encode(values, order="sorted"), AGREEMENT)
    return Result(files=(report,), facts={**agreement._asdict(), "notes": _notes(agreement)})


def _chosen(work: Work) -> Iterator[tuple[Row, _Answer]]:
    """Questions with the answers that were served. Calls of tools are left out: they are served as no text."""
    recipe = work.recipe
    rows = data.sample(asked_of(work.input(HELD_OUT, "data")), recipe.evaluate.rows, recipe.tune.seed)
    answers = msgspec.json.decode(work.input(REPORT, "evaluate tuned").read_bytes(), type=_Answers).answers
    pairs = zip(rows, answers, strict=True)
    texts = ((row, answer) for row, answer in pairs if not row.tools and answer.ending in ("stop", "length"))
    return (pair for _, pair in zip(range(recipe.evaluate.compared), texts, strict=False))


def _compared(work: Work, chosen: list[tuple[Row, _Answer]]) -> tuple[Agreed, ...]:
    path = work.folder / "asked.jsonl"
    write_rows(path, [row for row, _ in chosen])
    adapted = work.file.adapted
    job = CompareJob(
        out=work.folder / "compared",
        model=folder_of(work) if adapted else work.unpack(_sources(work.file)[0], "model"),
        adapter=work.unpack("tune", "adapter") if adapted else None,
        rows=path,
        said=tuple(Said(answer.answer, answer.ending == "stop") for _, answer in chosen),
        max_tokens=work.recipe.evaluate.max_tokens,
        threads=work.settings.threads,
    )
    found = work.tools.compare(job, lambda report: work.moved(report.step / max(1, report.steps), _text(report)))
    return found.answers


def _text(report: Progress) -> str:
    return f"{report.step}/{report.steps} answers" if report.steps else report.phase


def _notes(found: Agreement) -> list[str]:
    """What the numbers mean, where they are not as they should be."""
    other = found.rows - found.same - found.near
    if not other:
        return []
    return [f"{other} of {found.rows} served answers are others than the trained model gives"]


STEP = Step("compare", tasks, run, rooms=("tuning", "proofs"), packages=("torch", "tokenizers"), order=35)
