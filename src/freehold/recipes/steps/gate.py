"""gate: does the new model meet the recipe's conditions?"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from freehold.core.errors import BadRecipe
from freehold.proofs.facts import Fact
from freehold.proofs.metrics import HEADLINE, LABELS
from freehold.recipes.schema import GateSection, RecipeFile
from freehold.recipes.steps.compare import Agreement
from freehold.recipes.steps.evaluate import REPORT
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store

VERDICT = "gate.json"
_SLACK = 1e-9
_OTHER = "Pairs with scores have min_spearman, others min_recall_at_1 and min_mrr"


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
        measured = round(self.measured, 3) + 0.0  # or a little less than nothing is written as -0.000
        return f"{self.name} of {self.about}: {measured:.3f}, {bound} {self.limit:.3f} wanted: {verdict}"


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
        return self.values()[name]

    def values(self) -> dict[str, float]:
        """All that are numbers."""
        found = {fact.name.removeprefix("evaluation."): fact.value for fact in self.facts}
        return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}

    @property
    def headline(self) -> str:
        """The figure that stands for all."""
        return next(name for name in HEADLINE if name in self.values())


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, after every evaluation."""
    kinds = (*(() if file.recipe.tune.method == "scratch" else ("base",)), "tuned", *file.recipe.quantize.types)
    parameters = {**msgspec.structs.asdict(file.recipe.gate), "released": file.recipe.released_type}
    compared = ["compare tuned"] if file.recipe.compares else []
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
    for metric in LABELS:
        least = getattr(gate, f"min_{metric}", None)
        if least is not None:
            measured = reports[released].values()
            if metric not in measured:
                raise BadRecipe(f"[gate] min_{metric} is set, and it was not measured", _OTHER)
            name = metric.replace("_", " ") if metric in ("token_f1", "exact_match") else LABELS[metric]
            yield Condition(name, released, measured[metric], least, True)
    headline = reports["tuned"].headline
    label, tuned = LABELS[headline], reports["tuned"].value(headline)
    if "base" in reports:
        gain = round(tuned - reports["base"].value(headline), 6)
        yield Condition(f"{label} gained over the base", "tuned", gain, gate.min_gain or 0.0, True)
    for kind in reports:
        if kind not in ("base", "tuned"):
            drop = round(tuned - reports[kind].value(headline), 6)
            yield Condition(f"{label} lost in quantising", kind, drop, gate.max_quantized_drop, False)


def _agreed(work: Work) -> Iterator[Condition]:
    """Beside a base that stays quantised, rounding alone makes other answers: there it is told, and no condition."""
    if "compare tuned" not in work.inputs or work.file.adapted:
        return
    facts = work.inputs["compare tuned"].facts
    found = Agreement(facts["rows"], facts["same"], facts["near"])
    if found.rows:
        yield Condition("answers as trained", "tuned", round(found.share, 6), work.recipe.gate.min_agreement, True)


STEP = Step("gate", tasks, run, rooms=("proofs",))
