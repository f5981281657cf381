"""merge: base and adapter to one model folder."""

from collections.abc import Iterable

from freehold.recipes.schema import RecipeFile
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, where there is an adapter and a base that it can go into."""
    if file.recipe.tune.adapts and not file.adapted:
        tune = file.recipe.tune
        yield Task("merge", "merge", ("base", "tune"), {"pooling": tune.pooling} if tune.embeds else {})


def run(work: Work) -> Result:
    """The merged model's files."""
    out = work.folder / "merged"
    base = work.unpack("base", "model")
    work.tools.merge(base, work.unpack("tune", "adapter"), out)
    if work.recipe.tune.embeds:
        from freehold.tuning.embedder import declare, pooling_of

        declare(out, pooling_of(base, work.recipe.tune.pooling))
    return Result(files=work.keep_folder(out, "model"))


STEP = Step("merge", tasks, run, rooms=("tuning",), packages=("torch",))
