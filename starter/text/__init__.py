"""The text of the starter model: one module per skill, each with a `SKILL` that says how to make one sample.

A skill registers itself by being a module here with a `SKILL`; `skills()` finds them in name order. `kit` holds
what they share (drawing, styling, grammar), `words` the word lists, `weights` the share of rows each skill gets.
Everything a skill draws comes from one `Draw`, whose `held` flag says which side of the split its slots are from.
"""

import importlib
import pkgutil

from .kit import Skill

__all__ = ["skills"]


def skills() -> dict[str, Skill]:
    """Every skill of this package by name, in name order."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found = [module.SKILL for module in modules if hasattr(module, "SKILL")]
    return {skill.name: skill for skill in found}
