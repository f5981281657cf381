"""convert: a model folder to GGUF, for the base and for the tuned model."""

from collections.abc import Iterable

from freehold.recipes.schema import RecipeFile
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store
from freehold.tuning.job import ADAPTERS

MODEL = "model.gguf"


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task for each model."""
    method = file.recipe.tune.method
    if method != "scratch":
        yield Task("convert base", "convert", ("base",))
    yield Task("convert tuned", "convert", ("merge" if method in ADAPTERS else "tune",))


def run(work: Work) -> Result:
    """One GGUF file."""
    out = work.folder / MODEL
    work.tools.convert(work.unpack(work.task.needs[0], "model"), out)
    return Result(files=(work.keep(out, MODEL),))


STEP = Step("convert", tasks, run, rooms=("convert", "formats"), packages=("gguf",), order=20)
