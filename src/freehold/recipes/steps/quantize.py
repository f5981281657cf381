"""quantize: the tuned model's GGUF to smaller types."""

from collections.abc import Iterable

from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.convert import MODEL
from freehold.recipes.task import Result, Step, Task, Work
from freehold.store import Store


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task for each type."""
    for kind in file.recipe.quantize.types:
        yield Task(f"quantize {kind}", "quantize", ("convert tuned",), {"type": kind})


def run(work: Work) -> Result:
    """One GGUF file."""
    out = work.folder / MODEL

    def progress(done: int, total: int) -> None:
        work.moved(done / total if total else 1.0)

    kind: str = work.task.parameters["type"]
    work.tools.quantize(work.input(MODEL), out, kind, work.settings.threads, progress)
    return Result(files=(work.keep(out, MODEL),))


STEP = Step("quantize", tasks, run, rooms=("convert", "formats"), packages=("gguf", "xllamacpp"))
