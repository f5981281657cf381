"""What 'tune --plan' shows: what each method would take, which cannot be, and which to take."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from freehold.cli._output import emit, line, size, table
from freehold.cli._spelling import as_options
from freehold.core.errors import BadInput, BadRecipe, FreeholdError, NotEnoughMemory, Unsupported
from freehold.recipes.events import Note, OnEvent, RunBegins, RunEvent, StepEnds

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.recipes.schema import RecipeFile
    from freehold.tuning.job import TrainPlan

_FIRST, _OTHERS = 20.0, 10.0
"""Seconds for which the first method is tried, and each after it."""
_IMPOSSIBLE = (BadRecipe, BadInput, Unsupported, NotEnoughMemory)
"""What one method meets and another may not."""
_QLORA = "qlora"
_USUAL: dict[str, dict[str, str]] = {
    "lora": {"method": "lora"},
    _QLORA: {"method": "lora", "base_dtype": "nf4"},
    "dora": {"method": "dora"},
    "full": {"method": "full"},
}
"""What is tried where no method is named, the usual one first. What lora takes, rslora does."""
_HEAD = ("method", "steps", "tokens", "time", "tokens/s", "memory", "private", "checkpointing")


def show_plan(
    recipe: "Callable[[dict[str, Any]], RecipeFile]",
    section: Mapping[str, Any],
    methods: Sequence[str],
    settings: "Settings",
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Try `methods`, or all where none is named, and say what each would take. `recipe` makes one of a [tune] section.

    Raises what planning the first raises, where none can be.
    """
    from freehold.cli._makeview import View

    usual = {name: keys for name, keys in _USUAL.items() if name != _QLORA or "base_dtype" not in section}
    wanted = {method: {"method": method} for method in methods} or usual
    with View(quiet=quiet or json) as view:
        found, impossible = _tried(recipe, section, wanted, settings, _once(view))
    if not found:
        raise next(iter(impossible.values()))
    best, why = recommended(found)
    reasons = {name: error.message for name, error in impossible.items()}
    if json:
        told = {name: {**msgspec.to_builtins(each), "recommended": name == best} for name, each in found.items()}
        emit({**told, **{name: {"impossible": reason} for name, reason in reasons.items()}})
        return
    table(_HEAD, [_row(name, each) for name, each in found.items()])
    for name, reason in reasons.items():
        line(f"{name} cannot be: {reason}")
    how = "--base-dtype nf4" if best == _QLORA else f"--method {best}"
    line(f"Take {best} ({how}): {why}.")


def recommended(found: "Mapping[str, TrainPlan]") -> tuple[str, str]:
    """The method to take, and why. All of `found` fit the memory: they were tried, with their largest step."""
    first, four_bits = next(iter(found)), found.get(_QLORA)
    if first == _QLORA or four_bits is None:
        return first, "it fits this machine's memory"
    frugal = found[first].checkpointing and not four_bits.checkpointing
    if frugal and four_bits.tokens_per_second > found[first].tokens_per_second:
        return _QLORA, f"beside it {first} fits this machine's memory only with checkpointing, and is slower"
    return first, "it fits this machine's memory"


def _tried(
    recipe: "Callable[[dict[str, Any]], RecipeFile]",
    section: Mapping[str, Any],
    wanted: Mapping[str, Mapping[str, str]],
    settings: "Settings",
    hear: OnEvent,
) -> "tuple[dict[str, TrainPlan], dict[str, FreeholdError]]":
    """What each would take, and why others cannot be."""
    from freehold.recipes import tools
    from freehold.recipes.tuning import plan

    found: dict[str, TrainPlan] = {}
    impossible: dict[str, FreeholdError] = {}
    for name, keys in wanted.items():
        seconds = _OTHERS if found else _FIRST
        try:
            with as_options(Path.cwd() / "plan.toml"):
                file = recipe({**section, **keys})
                hear(Note(name, f"trying {name} for {seconds:.0f} s or less"))
                found[name] = plan(file, settings, seconds=seconds, on_event=hear, tools=tools.real())
        except _IMPOSSIBLE as error:
            impossible[name] = error
    return found, impossible


def _once(view: OnEvent) -> OnEvent:
    """What is said of a step, once: base and data are the same for all methods."""
    ended: set[str] = set()

    def hear(event: RunEvent) -> None:
        if isinstance(event, RunBegins) or event.task in ended:
            return
        view(event)
        if isinstance(event, StepEnds):
            ended.add(event.task)

    return hear


def _row(name: str, each: "TrainPlan") -> tuple[str, ...]:
    return (
        name,
        f"{each.steps:,}",
        f"{each.tokens:,}",
        f"{each.seconds / 60:.1f} min",
        f"{each.tokens_per_second:,.0f}",
        size(each.peak_device or each.peak_rss),
        size(each.peak_private),
        "on" if each.checkpointing else "off",
    )
