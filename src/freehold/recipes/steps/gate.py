"""gate: does the new model meet the recipe's conditions?"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from freehold.proofs.facts import Fact
from freehold.recipes.schema import GateSection, RecipeFile
from freehold.recipes.steps.compare import Agreement
from freehold.recipes.steps.evaluate import REPORT
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store

VERDICT = "gate.json"
_SLACK = 1e-9


class Condition(msgspec.Struct, frozen=True):
    """One condition. `least` says whether `limit` is a minimum or a maximum."""

    name: str
    about: str
    """The model it is about: tuned, or a quantisation."""
    measured: float
    limit: float
    least: bool

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return self.missing <= _SLACK

    @property
    def missing(self) -> float:
        """By how much it fails; at most 0 when it holds."""
        return self.limit - self.measured if self.least else self.measured - self.limit

    def line(self) -> str:
        """The condition and its outcome in words."""
        bound = "at least" if self.least else "at most"
        verdict = "passed" if self.passed else f"FAILED by {self.missing:.3f}"
        return f"{self.name} of {self.about}: {self.measured:.3f}, {bound} {self.limit:.3f} wanted: {verdict}"


class Verdict(msgspec.Struct, frozen=True):
    """All conditions; the gate is passed when each holds."""

    conditions: tuple[Condition, ...]

    @property
    def passed(self) -> bool:
        """Whether every condition holds."""
        return all(condition.passed for condition in self.conditions)


class Report(msgspec.Struct, frozen=True):
    """What the gate reads of an evaluation."""

    facts: tuple[Fact, ...]

    def value(self, name: str) -> float:
        """The value of one of its facts."""
        return next(float(fact.value or 0) for fact in self.facts if fact.name == f"evaluation.{name}")


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, after every evaluation."""
    kinds = (*(() if file.recipe.tune.method == "scratch" else ("base",)), "tuned", *file.recipe.quantize.types)
    parameters = {**msgspec.structs.asdict(file.recipe.gate), "released": file.recipe.released_type}
    compared = ["compare tuned"] if file.recipe.evaluate.compared else []
    yield Task("gate", "gate", (*(f"evaluate {kind}" for kind in kinds), *compared), parameters)


def run(work: Work) -> Result:
    """The verdict."""
    reports = {
        need.removeprefix("evaluate "): msgspec.json.decode(work.input(REPORT, need).read_bytes(), type=Report)
        for need in work.task.needs
        if need.startswith("evaluate ")
    }
    conditions = (*judge(work.recipe.gate, reports, work.recipe.released_type or "tuned"), *_agreed(work))
    verdict = msgspec.json.encode({"schema": 1, "kind": "gate", "conditions": conditions}, order="sorted")
    passed = Verdict(conditions).passed
    return Result(files=(work.keep_bytes(verdict, VERDICT),), facts={"passed": passed})


def judge(gate: GateSection, reports: Mapping[str, Report], released: str) -> Iterator[Condition]:
    """Every condition that the recipe sets, with what was measured."""
    for metric, least in (("token_f1", gate.min_token_f1), ("exact_match", gate.min_exact_match)):
        if least is not None:
            yield Condition(metric.replace("_", " "), released, reports[released].value(metric), least, True)
    tuned = reports["tuned"].value("token_f1")
    if "base" in reports:
        gain = round(tuned - reports["base"].value("token_f1"), 6)
        yield Condition("token F1 gained over the base", "tuned", gain, gate.min_gain or 0.0, True)
    for kind in reports:
        if kind not in ("base", "tuned"):
            drop = round(tuned - reports[kind].value("token_f1"), 6)
            yield Condition("token F1 lost in quantising", kind, drop, gate.max_quantized_drop, False)


def _agreed(work: Work) -> Iterator[Condition]:
    """Beside a base that stays quantised, rounding alone makes other answers: there it is told, and no condition."""
    if "compare tuned" not in work.inputs or work.file.adapted:
        return
    facts = work.inputs["compare tuned"].facts
    found = Agreement(facts["rows"], facts["same"], facts["near"])
    if found.rows:
        yield Condition("answers as trained", "tuned", round(found.share, 6), work.recipe.gate.min_agreement, True)


STEP = Step("gate", tasks, run, rooms=("proofs",))
