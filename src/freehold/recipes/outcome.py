"""What a run came to: the table, the gate, and where things are."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from freehold.formats.atomic import replacing
from freehold.proofs.metrics import VECTORS
from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.convert import ADAPTER, MODEL
from freehold.recipes.steps.evaluate import REPORT
from freehold.recipes.steps.gate import VERDICT, Condition, Report, Verdict
from freehold.recipes.steps.release import released
from freehold.recipes.task import Output, Result
from freehold.store import Store

_SAMPLES = 3


class Measured(msgspec.Struct, frozen=True):
    """One line of the table."""

    model: str
    """base, tuned, or a quantisation."""
    token_f1: float | None
    exact_match: float | None
    """Of a model that answers."""
    size: int
    """Bytes of the GGUF file, and of the adapter beside it."""
    tokens_per_second: float
    rows: int
    vectors: dict[str, float] = {}
    """Of a model of vectors: recall_at_1, recall_at_10, mrr and ndcg_at_10, or spearman."""

    @property
    def figures(self) -> dict[str, float]:
        """How good it is."""
        answers = {"token_f1": self.token_f1, "exact_match": self.exact_match}
        return {**{name: value for name, value in answers.items() if value is not None}, **self.vectors}


class Outcome(msgspec.Struct, frozen=True):
    """A finished run. Without `names` the gate was not passed and nothing was released."""

    name: str
    released: str
    """The quantisation that the name is for, or tuned."""
    passed: bool
    measured: tuple[Measured, ...]
    conditions: tuple[Condition, ...]
    names: dict[str, str]
    """Every name that points to something new and its manifest's digest, the model's own first."""
    evidence: dict[str, str]
    folder: Path
    """Loss curve, answers and journal, for people."""
    training: dict[str, Any]
    notes: tuple[str, ...]
    question: str
    """One of the held-out questions, to try the model with."""
    seconds: float

    def failures(self) -> list[str]:
        """The conditions that do not hold, in words."""
        return [condition.line() for condition in self.conditions if not condition.passed]


def scores(measured: Measured) -> dict[str, float]:
    """What is compared between runs."""
    size, rows = measured.size, measured.rows
    return {**measured.figures, "size": size, "tokens_per_second": measured.tokens_per_second, "rows": rows}


def gate_passed(results: Mapping[str, Result]) -> bool:
    """Whether the gate's verdict is that the model may be released."""
    return bool(results["gate"].facts["passed"])


def outcome_of(file: RecipeFile, results: Mapping[str, Result], store: Store, folder: Path, seconds: float) -> Outcome:
    """Read the outcome from the results, and put what people want to see into `folder`."""
    verdict = msgspec.json.decode(_content(store, results["gate"], VERDICT), type=Verdict)
    _show(file, results, store, folder)
    return Outcome(
        name=str(file.recipe.name),
        released=file.recipe.released_type or "tuned",
        passed=verdict.passed,
        measured=tuple(_measured(file, results, store)),
        conditions=verdict.conditions,
        names={str(name): str(digest) for name, digest in released(results["release"])} if "release" in results else {},
        evidence={task: str(result.file(REPORT).digest) for task, result in _evaluations(file, results)},
        folder=folder,
        training={key: value for key, value in results["tune"].facts.items() if key != "notes"},
        notes=tuple(f"{task}: {text}" for task, result in results.items() for text in result.facts.get("notes", ())),
        question=_question(store, results["evaluate tuned"]),
        seconds=seconds,
    )


def _evaluations(file: RecipeFile, results: Mapping[str, Result]) -> Iterator[tuple[str, Result]]:
    """Base first, then tuned, then quantised as the recipe lists them."""
    for kind in ("base", "tuned", *file.recipe.quantize.types):
        if f"evaluate {kind}" in results:
            yield f"evaluate {kind}", results[f"evaluate {kind}"]


def _measured(file: RecipeFile, results: Mapping[str, Result], store: Store) -> Iterator[Measured]:
    for task, result in _evaluations(file, results):
        kind = task.removeprefix("evaluate ")
        report = msgspec.json.decode(_content(store, result, REPORT), type=Report)
        source = results[f"convert {kind}" if kind in ("base", "tuned") else f"quantize {kind}"]
        values = report.values()
        yield Measured(
            model=kind,
            token_f1=values.get("token_f1"),
            exact_match=values.get("exact_match"),
            size=sum(source.file(name).size for name in (MODEL, ADAPTER) if source.has(name)),
            tokens_per_second=result.facts.get("tokens_per_second", 0.0),
            rows=int(values["rows"]),
            vectors={name: values[name] for name in VECTORS if name in values},
        )


class _Asked(msgspec.Struct):
    question: str
    token_f1: float = 0.0
    answer: str = ""
    reference: str = ""


class _Answers(msgspec.Struct):
    answers: tuple[_Asked, ...]


def samples(results: Mapping[str, Result], store: Store) -> tuple[dict[str, str], ...]:
    """The first of the tuned model's answers, for people: question, answer, reference."""
    answers = msgspec.json.decode(_content(store, results["evaluate tuned"], REPORT), type=_Answers).answers[:_SAMPLES]
    return tuple({"question": each.question, "answer": each.answer, "reference": each.reference} for each in answers)


def _question(store: Store, result: Result) -> str:
    """The shortest of the questions that were answered best."""
    answers = msgspec.json.decode(_content(store, result, REPORT), type=_Answers).answers
    return min(answers, key=lambda asked: (-asked.token_f1, len(asked.question), asked.question)).question


def _content(store: Store, result: Result, name: str) -> bytes:
    return store.path(result.file(name).digest).read_bytes()


def show_extras(results: Mapping[str, Result], store: Store, folder: Path) -> None:
    """Put copies of data card and loss curve into `folder`, under plain names."""
    _copy({output.name: output for task in ("data", "tune") for output in results[task].extras}, store, folder)


def _show(file: RecipeFile, results: Mapping[str, Result], store: Store, folder: Path) -> None:
    """Beside these, the answers."""
    show_extras(results, store, folder)
    answers = {task.removeprefix("evaluate "): result.file(REPORT) for task, result in _evaluations(file, results)}
    _copy({f"answers-{kind}.json": output for kind, output in answers.items()}, store, folder)


def _copy(files: Mapping[str, Output], store: Store, folder: Path) -> None:
    for name, output in files.items():
        with replacing(folder / name) as temporary:
            shutil.copyfile(store.path(output.digest), temporary)
