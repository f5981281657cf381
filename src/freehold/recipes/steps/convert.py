"""convert: a model folder to GGUF, for the base and for the tuned model.

A base that is a GGUF file stays as it is: for the tuned model its adapter is converted.
"""

from collections.abc import Iterable, Iterator

from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.base import BESIDE, folder_of, manifest_of
from freehold.recipes.task import Output, Result, Step, Task, Work
from freehold.store import Store

MODEL, TEMPLATE, ADAPTER = BESIDE["gguf"], BESIDE["chat_template"], "adapter.gguf"


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task for each model."""
    if file.recipe.tune.method != "scratch":
        yield Task("convert base", "convert", ("base",))
    if file.adapted:
        yield Task("convert tuned", "convert", ("base", "tune"))
    else:
        yield Task("convert tuned", "convert", ("merge" if file.recipe.tune.adapts else "tune",))


def run(work: Work) -> Result:
    """One GGUF file; of a base that is one, that, and what belongs beside it."""
    if work.file.adapted:
        return Result(files=tuple(_beside(work)))
    out = work.folder / MODEL
    work.tools.convert(work.unpack(work.task.needs[0], "model"), out)
    return Result(files=(work.keep(out, MODEL),))


def _beside(work: Work) -> Iterator[Output]:
    for part in manifest_of(work).parts:
        if part.role in BESIDE:
            yield Output(BESIDE[part.role], part.digest, part.size)
    if "tune" in work.inputs:
        out = work.folder / ADAPTER
        work.tools.adapt(work.unpack("tune", "adapter"), folder_of(work), out)
        yield work.keep(out, ADAPTER)


STEP = Step("convert", tasks, run, rooms=("convert", "formats"), packages=("gguf",), order=20)
