"""Which rows an objective learns from, and what is said where data has others."""

from pathlib import Path

import msgspec

from freehold.core.errors import BadData
from freehold.data.loading import load
from freehold.recipes.schema import DataSection, Recipe, TuneSection
from freehold.tuning.job import Objective

KIND_OF: dict[Objective, str] = {
    "sft": "chat",
    "text": "text",
    "dpo": "preference",
    "orpo": "preference",
    "kto": "judged",
    "grpo": "prompt",
    "embed": "pair",
    "classify": "labelled",
}
OBJECTIVE_OF: dict[str, Objective] = {kind: objective for objective, kind in reversed(KIND_OF.items())}
"""The first of those that learn from a kind."""


def flaw(recipe: Recipe) -> tuple[str, str] | None:
    """What is wrong with the kind that a recipe names, and its remedy."""
    named, wanted = recipe.data.kind, KIND_OF[recipe.tune.objective]
    if named in ("auto", wanted):
        return None
    said = f"[data] kind is {named}, and objective {recipe.tune.objective} learns from {wanted} rows"
    return said, f'Write kind = "{wanted}", or objective = "{OBJECTIVE_OF[named]}"'


def wanted(section: DataSection, tune: TuneSection) -> DataSection:
    """The section with the kind that its objective needs, where it names none.

    Answers are what is learned unless something is said: for them a file is taken for what it looks like, so that
    answers that somebody marked as wrong are not learned as if they were right. See `check`.
    """
    if section.kind != "auto" or tune.objective == "sft":
        return section
    return msgspec.structs.replace(section, kind=KIND_OF[tune.objective])


def check(kind: str, path: Path, section: DataSection, tune: TuneSection) -> None:
    """Raises BadData for rows that the objective does not learn from."""
    needed = KIND_OF[tune.objective]
    if kind == needed:
        return
    remedy = f'Write objective = "{OBJECTIVE_OF[kind]}"'
    if not section.generator and _reads(path, section, needed):
        remedy += f', or kind = "{needed}" to learn every answer in it'
    raise BadData(f"{path} has {kind} rows, and objective {tune.objective} learns from {needed} rows", remedy)


def _reads(path: Path, section: DataSection, kind: str) -> bool:
    """Whether the file can be read as rows of another kind."""
    try:
        load(path, columns=section.columns, format=section.format, kind=kind, broken="drop")
    except BadData:
        return False
    return True
