"""merge: base and adapter to one model folder."""

from collections.abc import Iterable

from freehold.recipes.schema import RecipeFile
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, where there is an adapter and a base that it can go into."""
    if file.recipe.tune.adapts and not file.adapted:
        yield Task("merge", "merge", ("base", "tune"))


def run(work: Work) -> Result:
    """The merged model's files."""
    out = work.folder / "merged"
    work.tools.merge(work.unpack("base", "model"), work.unpack("tune", "adapter"), out)
    return Result(files=work.keep_folder(out, "model"))


STEP = Step("merge", tasks, run, rooms=("tuning",), packages=("torch",))
