"""base: the files of the model that is tuned."""

from collections.abc import Iterable

from freehold.recipes.schema import RecipeFile
from freehold.recipes.sources import base_of
from freehold.recipes.task import Output, Result, Step, Task, Work
from freehold.store import Store

PREFIX = "model"


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, unless the model is trained from nothing."""
    if file.recipe.tune.method != "scratch":
        yield Task("base", "base", (), {"base": base_of(file, store).manifest.digest.text})


def run(work: Work) -> Result:
    """The base's files in the store, and its manifest."""
    base = base_of(work.file, work.store)
    for part in base.manifest.parts if base.folder else ():
        work.store.add_file(base.folder / part.filename)  # type: ignore[operator]
    parts = tuple(Output(f"{PREFIX}/{part.filename}", part.digest, part.size) for part in base.manifest.parts)
    manifest = work.keep_bytes(base.manifest.encode(), "manifest.json")
    return Result(files=(manifest, *parts), facts={"parameters": base.manifest.details.parameters})


STEP = Step("base", tasks, run, order=10)
