"""tune: the base and the rows to an adapter, or to a model of its own."""

from collections.abc import Iterable

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadRecipe
from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.base import folder_of
from freehold.recipes.steps.data import HELD_OUT, TRAIN
from freehold.recipes.task import Output, Result, Step, Task, Work
from freehold.store import Store
from freehold.tuning.job import ADAPTERS, Architecture, Progress, TrainResult

RECORD = "training.json"
_LORA = ("rank", "alpha", "base_dtype")
_COUNTS = ("tokens", "steps", "trainable", "dtype", "rows_cut", "rows_dropped")
_EVIDENCE = (*_COUNTS, "method", "supervised_tokens", "losses", "held_out_losses", "rows", "threads")
_FACTS = (*_COUNTS, "supervised_tokens", "seconds", "peak_rss", "peak_private", "checkpointing", "best_step", "resumed")


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, which depends on the keys that its method reads."""
    method = file.recipe.tune.method
    unused = {"checkpoint_seconds", "checkpointing", "log"}  # change how it gets there, not what comes out
    unused.update(() if method in ADAPTERS else _LORA, () if method == "scratch" else Architecture.__struct_fields__)
    parameters = {key: value for key, value in msgspec.structs.asdict(file.recipe.tune).items() if key not in unused}
    parameters["rewards"] = [_reward(file, spec)[1] for spec in file.recipe.tune.rewards]
    yield Task("tune", "tune", ("data",) if method == "scratch" else ("base", "data"), parameters)


def _reward(file: RecipeFile, spec: str) -> tuple[str, str]:
    """A reward as the trainer finds it, and as it counts: a file by what it says. Raises BadRecipe."""
    script, colon, name = spec.partition(":")
    if not (colon and script.endswith(".py")):
        return spec, spec
    path = file.resolve(script)
    if not path.is_file():
        raise BadRecipe(f"[tune] rewards: no such file: {path}", "Name a Python file beside the recipe")
    return f"{path}:{name}", f"{Digest.of_file(path)}:{name}"


def run(work: Work) -> Result:
    """The trainer's files, the losses, and a plot of them."""
    base = folder_of(work) if "base" in work.inputs else None
    job = work.recipe.tune.job(
        out=work.folder / "out",
        train=work.input(TRAIN, "data"),
        held_out=work.input(HELD_OUT, "data"),
        base=base,
    )
    job = msgspec.structs.replace(job, rewards=tuple(_reward(work.file, spec)[0] for spec in job.rewards))
    notes: list[str] = []

    def progress(report: Progress) -> None:
        if report.note:
            notes.append(report.note)
        work.moved(report.step / report.steps if report.steps else 0.0, _text(report), report)

    trained = work.tools.train(job, progress)
    kind = "adapter" if trained.method in ADAPTERS else "model"
    record = work.keep_bytes(_record(trained), RECORD)
    files = (record, *work.keep_folder(trained.model, kind))
    return Result(files=files, extras=_curve(work, trained), facts=_facts(trained, notes))


def _text(report: Progress) -> str:
    if report.held_out_loss is not None:
        return f"held-out loss {report.held_out_loss:.3f}"
    if report.phase != "training":
        return report.phase
    minutes, seconds = divmod(round(report.seconds_left), 60)
    held = f"{report.memory >> 20:,} MB  " if report.memory else ""
    return (
        f"step {report.step}/{report.steps}  loss {report.loss:.3f}  norm {report.gradient_norm:.2f}  "
        f"{report.tokens_per_second:,.0f} tokens/s  {held}{minutes}:{seconds:02d} left"
    )


def _record(trained: TrainResult) -> bytes:
    """What the training was, without what differs from run to run: evidence."""
    values = {"schema": 1, "kind": "training", **{key: getattr(trained, key) for key in _EVIDENCE}}
    return msgspec.json.encode(values, order="sorted")


def _facts(trained: TrainResult, notes: list[str]) -> dict[str, object]:
    first_last = {"first_loss": trained.losses[0], "last_loss": trained.losses[-1]} if trained.losses else {}
    held_out = {"held_out_loss": trained.held_out_losses[-1].loss} if trained.held_out_losses else {}
    return {**{key: getattr(trained, key) for key in _FACTS}, **first_last, **held_out, "notes": notes}


def _curve(work: Work, trained: TrainResult) -> tuple[Output, ...]:
    """The loss per step for people: CSV, and PNG."""
    from freehold.tuning.plot import write_numbers

    numbers, picture = work.folder / "loss.csv", work.folder / "loss.png"
    write_numbers(trained.losses, trained.held_out_losses, numbers, trained.gradient_norms)
    work.tools.draw(trained, picture)
    return work.keep(numbers, numbers.name), work.keep(picture, picture.name)


STEP = Step(
    "tune", tasks, run, rooms=("tuning",), packages=("torch", "transformers", "tokenizers"), resumable=True, order=40
)
