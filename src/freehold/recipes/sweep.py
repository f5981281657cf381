"""A sweep: keys of [tune] with several values, of which every combination is tried and the best one taken."""

from itertools import product
from math import prod
from typing import Any

import msgspec

from freehold.core import spans
from freehold.recipes.schema import SWEPT, TuneSection

MOST = 32
"""Combinations."""


def swept(section: TuneSection) -> dict[str, tuple[Any, ...]]:
    """The keys that have several values, in their order."""
    values = {key: getattr(section, key) for key in SWEPT}
    return {key: value for key, value in values.items() if isinstance(value, tuple)}


def candidates(section: TuneSection) -> dict[str, TuneSection]:
    """What is tried, one value to a key, by a name such as `rank=8 alpha=16.0`. A time to fit is shared evenly."""
    lists = swept(section)
    found = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    if section.time and len(found) > 1:
        section = msgspec.structs.replace(section, time=f"{spans.seconds(section.time) / len(found):.3f}s")
    return {_name(chosen): msgspec.structs.replace(section, **chosen) for chosen in found}


def name_of(candidate: str) -> str:
    """The task that tunes one of several."""
    return f"tune {candidate}"


def chosen(section: TuneSection, candidate: str) -> dict[str, Any]:
    """What one of several has for the keys that have several values."""
    own = candidates(section)[candidate]
    return {key: getattr(own, key) for key in swept(section)}


def _name(chosen: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in chosen.items())


def flaw(section: TuneSection) -> tuple[str, str] | None:
    """What is wrong with a sweep, and its remedy."""
    lists = swept(section)
    for key, values in lists.items():
        twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
        if twice is not None:
            return f"{key} has {twice} twice", "Leave one of them out"
    count = prod(map(len, lists.values()))
    if count > MOST:
        return f"{' and '.join(lists)} make {count} combinations", f"Try {MOST} at most"
    if lists and not section.adapts:
        return f"several values of {' and '.join(lists)} are for adapters", "Write method = lora, rslora or dora"
    if count > 1 and not section.evaluations:
        return "the best of several is found by held-out losses, and evaluations is 0", "Remove evaluations"
    return None
