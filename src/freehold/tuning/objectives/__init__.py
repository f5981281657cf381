"""What training aims at: one file for each objective, which registers itself by being there.

An objective says which kind of rows it learns from, makes examples of them, and gives the loss of some examples.
"""

import importlib
import pkgutil
from functools import cache

from freehold.tuning.objectives.base import Objective


@cache
def objectives() -> dict[str, Objective]:
    """All objectives by name: the modules of this folder."""
    names = [info.name for info in pkgutil.iter_modules(__path__) if info.name != "base"]
    return {name: importlib.import_module(f"{__name__}.{name}").OBJECTIVE for name in names}
