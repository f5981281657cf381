"""The recipe's tune step alone: data and base to an adapter or a model with a name, and what it took."""

from pathlib import Path
from typing import Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadRecipe
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.recipes.events import OnEvent
from freehold.recipes.labels import labelled
from freehold.recipes.names import ADAPTER_ALONE, variant
from freehold.recipes.outcome import show_extras
from freehold.recipes.runner import Left, Run, running, watched
from freehold.recipes.schema import RecipeFile, parse
from freehold.recipes.steps.base import beside
from freehold.recipes.steps.choose import SWEEP
from freehold.recipes.steps.data import HELD_OUT, REPORT, TRAIN
from freehold.recipes.steps.tune import RECORD
from freehold.recipes.sweep import candidates
from freehold.recipes.task import Result
from freehold.recipes.tools import Tools
from freehold.recipes.writing import toml
from freehold.store import importing
from freehold.tuning.job import ADAPTERS, Progress, TrainJob, TrainPlan

TASKS = ("base", "data", "tune")
_MAKE = "Write a recipe with objective = 'embed', and make it: freehold make"


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """What came out, and what it took."""

    name: str
    digest: str
    method: str
    tokens: int
    supervised_tokens: int
    seconds: float
    tokens_per_second: float
    peak_rss_mb: float
    peak_private_mb: float
    losses: tuple[float, ...]
    """One per step, in nats per supervised token."""
    held_out_losses: tuple[dict[str, float], ...]
    settings: dict[str, Any]
    """The recipe, and what its `auto` came to."""
    measured: dict[str, float] = {}
    """What else held-out rows say: accuracy of a classifier, recall of an embedding model."""
    candidates: tuple[dict[str, Any], ...] = ()
    """Each of several that were tried, with its held-out loss."""
    why: str = ""
    """Why the one that came out was taken."""
    cut: str = ""
    """Why it ended before its last step, if it did; `planned` is how many there were to be."""
    planned: int = 0
    folder: Path
    """Data card, loss curve and journal, for people."""


def recipe_of(values: dict[str, dict[str, Any]], folder: Path) -> RecipeFile:
    """A recipe without a file: its sections, with relative paths that start in `folder`. Raises BadRecipe."""
    path = folder / f"{Name.parse(values['model']['name']).model}.toml"
    try:
        recipe = parse(values, path)
    except BadRecipe as error:
        error.message = error.message.removeprefix(f"{path}: ")  # there is no such file
        raise
    return RecipeFile(recipe, path, toml(values).encode())


def tune(
    file: RecipeFile,
    settings: Settings,
    *,
    on_event: OnEvent,
    tools: Tools | None = None,
    report: Path | None = None,
    left: Left = watched,
) -> Tuned:
    """Run the recipe up to its tune step, and let its name point to what came out. Raises what `make` does.

    `report` is where the caller writes that: the record of the run keeps it for whoever goes on with the run.
    """
    with running(file, settings, tools, on_event, record="tune", left=left) as run:
        run.conclude(report=report)
        if run.file.adapted and file.recipe.tune.embeds:
            raise BadInput(f"{file.recipe.model.base} is a GGUF file, beside which no adapter is served alone", _MAKE)
        run.go(*TASKS)
        if _merges(run):
            run.go("merge")
        manifest = _keep(run)
        show_extras(run.results, run.store, run.folder)
        run.conclude(result={str(file.recipe.name): str(manifest.digest)})
        return _tuned(run, manifest.digest)


def plan(file: RecipeFile, settings: Settings, *, seconds: float, on_event: OnEvent, tools: Tools) -> TrainPlan:
    """What the tune step would take, after a try of `seconds`. Raises what `make` does, BadInput for a sweep."""
    if (count := len(candidates(file.recipe.tune))) > 1:
        raise BadInput(f"a plan looks at one setting, and there are {count}", "Give one value to each option")
    with running(file, settings, tools, on_event) as run:
        run.go("base", "data")
        with run.store.room() as room, labelled(run.file, run.results, room):
            return tools.plan(_job(run, room, seconds), lambda report: _ignore(report))


def _job(run: Run, room: Path, seconds: float) -> TrainJob:
    base = None
    if "base" in run.results:
        base = room / "base"
        importing.materialise(run.store, _base(run), base)
    sides = {name: run.store.path(run.results["data"].file(name).digest) for name in (TRAIN, HELD_OUT)}
    [section] = candidates(run.file.recipe.tune).values()
    job = section.job(out=room / "out", train=sides[TRAIN], held_out=sides[HELD_OUT], base=base)
    return msgspec.structs.replace(job, probe=seconds)


def _base(run: Run) -> Manifest:
    result = run.results["base"]
    if not run.file.adapted:
        return _parts(result, "model")
    return beside(Manifest.decode(run.store.path(result.file("manifest.json").digest).read_bytes()))


def _ignore(report: Progress) -> None:
    """A plan is soon made."""


def _parts(result: Result, prefix: str) -> Manifest:
    """A task's files under `prefix/`, as a model."""
    named = [(output.name.removeprefix(f"{prefix}/"), output) for output in result.files]
    inside = [Part("other", each.digest, each.size, name) for name, each in named if name != each.name]
    return Manifest(parts=tuple(inside))


def _merges(run: Run) -> bool:
    """Whether an adapter is of use merged alone: llama.cpp runs none with lengths, and the server none for vectors."""
    objective = run.file.recipe.tune.objective
    adapter = _record(run)["method"] in ADAPTERS and not run.file.adapted
    return adapter and (objective == "embed" or (objective != "classify" and _record(run)["method"] == "dora"))


def _keep(run: Run) -> Manifest:
    """Import what the trainer wrote under the recipe's name, with where it comes from.

    An adapter that cannot run beside its base is kept as NAME:adapter; the name is for the two merged.
    """
    recipe, results = run.file.recipe, run.results
    base = results["base"].file("manifest.json").digest if "base" in results else None
    lineage = Lineage(
        base=base,
        recipe=run.store.add_bytes(run.file.source),
        data=tuple(results["data"].file(name).digest for name in (TRAIN, HELD_OUT)),
    )
    files = [results["tune"].file(name).digest for name in (RECORD, SWEEP) if results["tune"].has(name)]
    evidence = (results["data"].file(REPORT).digest, *files)

    def keep(task: str, kind: str, name: Name) -> Manifest:
        with run.store.room() as room:
            folder = room / kind
            importing.materialise(run.store, _parts(results[task], kind), folder)
            return importing.import_folder(
                run.store, folder, name, lineage=lineage, evidence=evidence, licence=recipe.model.licence
            )

    if "merge" not in results:
        adapted = any(output.name.startswith("adapter/") for output in results["tune"].files)
        return keep("tune", "adapter" if adapted else "model", recipe.name)
    keep("tune", "adapter", variant(recipe.name, ADAPTER_ALONE))
    return keep("merge", "model", recipe.name)


def _record(run: Run) -> dict[str, Any]:
    """What the training was."""
    path = run.store.path(run.results["tune"].file(RECORD).digest)
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])


def _tuned(run: Run, digest: Digest) -> Tuned:
    result, recipe = run.results["tune"], run.file.recipe
    record = _record(run)
    facts = {**record, **result.facts}
    found = candidates(recipe.tune)
    section = found.get(facts.get("chosen", "")) or next(iter(found.values()))
    kept = ("dtype", "checkpointing", "threads", "steps", "trainable", "best_step", "library")
    chosen = {key: facts[key] for key in kept}
    return Tuned(
        name=str(recipe.name),
        digest=str(digest),
        method=record["method"],
        tokens=facts["tokens"],
        supervised_tokens=facts["supervised_tokens"],
        seconds=facts["seconds"],
        tokens_per_second=facts["tokens"] / max(facts.get("step_seconds") or facts["seconds"], 1e-9),
        peak_rss_mb=facts["peak_rss"] / (1 << 20),
        peak_private_mb=facts["peak_private"] / (1 << 20),
        losses=tuple(record["losses"]),
        held_out_losses=tuple(record["held_out_losses"]),
        settings={**msgspec.to_builtins(section), **chosen},
        candidates=tuple(facts.get("candidates", ())),
        measured=record["measured"],
        why=facts.get("why", ""),
        cut=facts.get("cut", ""),
        planned=facts.get("planned", 0),
        folder=run.folder,
    )
