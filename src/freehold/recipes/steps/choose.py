"""choose: of several adapters the one with the lowest held-out loss, in the place of the only one."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from freehold.core.errors import BadData
from freehold.proofs.facts import Fact
from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.tune import RECORD
from freehold.recipes.sweep import candidates, chosen, name_of
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store
from freehold.tuning.job import HeldOutLoss

SWEEP = "sweep.json"
_TOLD = ("seconds", "tokens", "steps", "trainable", "peak_rss")


class Candidate(NamedTuple):
    """One of several that were tried."""

    name: str
    settings: dict[str, Any]
    loss: float
    """The held-out loss of the weights that came out."""
    record: dict[str, Any]
    result: Result


class _Losses(msgspec.Struct):
    held_out_losses: tuple[HeldOutLoss, ...]


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, where there are several to choose from."""
    names = [name_of(each) for each in candidates(file.recipe.tune)]
    if len(names) > 1:
        yield Task("tune", "choose", tuple(names), {"patience": file.recipe.tune.patience})


def run(work: Work) -> Result:
    """The files of the best one, and what is known of all. Raises BadData where nothing was held out."""
    tried = [_candidate(work, name) for name in candidates(work.recipe.tune)]
    # Of equals the first one, which is the smaller where the recipe lists the smaller first.
    best = min(tried, key=lambda each: each.loss)
    why = _why(best, tried)
    evidence = work.keep_bytes(_evidence(best, tried, why), SWEEP)
    rows = [
        {"name": each.name, "held_out_loss": each.loss, **{key: each.result.facts.get(key) for key in _TOLD}}
        for each in tried
    ]
    facts = {**best.result.facts, "notes": [why], "chosen": best.name, "why": why, "candidates": rows}
    return Result(files=(*best.result.files, evidence), extras=best.result.extras, facts=facts)


def _candidate(work: Work, name: str) -> Candidate:
    result = work.inputs[name_of(name)]
    data = work.store.path(result.file(RECORD).digest).read_bytes()
    losses = [point.loss for point in msgspec.json.decode(data, type=_Losses).held_out_losses]
    if not losses:
        raise BadData(f"{name} has no held-out loss to be chosen by", "Hold out some rows: [data] held_out")
    section = candidates(work.recipe.tune)[name]
    settings = chosen(work.recipe.tune, name)
    # With patience the weights of the lowest loss are taken, else those of the end.
    loss = min(losses) if section.patience else losses[-1]
    return Candidate(name, settings, loss, msgspec.json.decode(data), result)


def _why(best: Candidate, tried: list[Candidate]) -> str:
    second = min((each for each in tried if each is not best), key=lambda each: each.loss)
    return (
        f"{best.name} is taken: of {len(tried)} its held-out loss is the lowest, {best.loss:.4f}, "
        f"before {second.loss:.4f} of {second.name}"
    )


def _evidence(best: Candidate, tried: list[Candidate], why: str) -> bytes:
    """What each of them was and came to, without what differs from run to run."""
    facts = [fact for each in tried for fact in _facts(each, chosen=each is best)]
    told = [
        {"name": each.name, "settings": each.settings, "held_out_loss": each.loss, "training": each.record}
        for each in tried
    ]
    values = {"schema": 1, "kind": "sweep", "chosen": best.name, "why": why, "facts": facts, "candidates": told}
    return msgspec.json.encode(values, order="sorted", enc_hook=str)


def _facts(candidate: Candidate, *, chosen: bool) -> Iterable[Fact]:
    weights, *_ = [file for file in candidate.result.files if file.name.endswith(".safetensors")]
    values: dict[str, str | float | bool] = {
        "tune.settings": candidate.name,
        "tune.held_out_loss": candidate.loss,
        "tune.chosen": chosen,
    }
    for name, value in values.items():
        yield Fact(weights.digest, name, value, "verified")


STEP = Step("choose", tasks, run, order=41)
