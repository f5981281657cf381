"""tune: the base and the rows to an adapter, or to a model of its own."""

from collections.abc import Iterable

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadRecipe
from freehold.recipes.events import on_a_line, said
from freehold.recipes.judging import judge_of, judging
from freehold.recipes.schema import RecipeFile, TuneSection
from freehold.recipes.steps.base import folder_of
from freehold.recipes.steps.data import HELD_OUT, TRAIN
from freehold.recipes.sweep import candidates, name_of
from freehold.recipes.task import Output, Result, Step, Task, Work
from freehold.recipes.versions import installed
from freehold.store import Store
from freehold.tuning.job import Architecture, Progress, TrainJob, TrainResult

OUT = "out"
"""The trainer's folder."""
RECORD = "training.json"
_SHOWN = 60
"""Characters of a question and of an answer in a line of progress."""
_LORA = ("rank", "alpha", "base_dtype")
_EMBED = ("scale", "pooling")
_COUNTS = ("tokens", "steps", "trainable", "dtype", "rows_cut", "rows_dropped")
_EVIDENCE = (*_COUNTS, "method", "supervised_tokens", "losses", "held_out_losses", "rows", "threads", "measured")
_TOOK = ("seconds", "step_seconds", "peak_rss", "peak_private", "peak_device", "checkpointing", "offload", "resumed")
_FACTS = (*_COUNTS, *_TOOK, "supervised_tokens", "best_step", "measured", "library")


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, or one for each that is tried. It depends on the keys that its method reads."""
    found = candidates(file.recipe.tune)
    for name, section in found.items():
        yield _task("tune" if len(found) == 1 else name_of(name), section, file, store)


def _task(name: str, section: TuneSection, file: RecipeFile, store: Store) -> Task:
    scratch = section.method == "scratch"
    unused = {"checkpoint_seconds", "checkpointing", "offload", "log"}  # change how it gets there, not what comes out
    unused.update(() if section.adapts else _LORA, () if scratch else Architecture.__struct_fields__)
    unused.update(() if section.embeds else _EMBED)
    parameters = {key: value for key, value in msgspec.structs.asdict(section).items() if key not in unused}
    if section.backend != "freehold":
        parameters["library"] = installed(section.backend)
    if section.judge:
        parameters["judge"] = judge_of(section, store).digest.text
    parameters["rewards"] = [_reward(file, spec)[1] for spec in section.rewards]
    return Task(name, "tune", ("data",) if scratch else ("base", "data"), parameters)


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
    found = candidates(work.recipe.tune)
    section = found.get(work.task.name.partition(" ")[2]) or next(iter(found.values()))
    job = section.job(
        out=work.folder / OUT,
        train=work.input(TRAIN, "data"),
        held_out=work.input(HELD_OUT, "data"),
        base=base,
    )
    rewards = tuple(_reward(work.file, spec)[0] for spec in job.rewards)
    # One of several is no result that could be taken for the best of them.
    job = msgspec.structs.replace(job, rewards=rewards, request=work.request if len(found) == 1 else None)
    with judging(section, work.store, work.folder / "judge.gguf") as judge:
        return _trained(work, msgspec.structs.replace(job, judge=judge))


def _trained(work: Work, job: TrainJob) -> Result:
    notes: list[str] = []

    def progress(report: Progress) -> None:
        if report.note:
            notes.append(report.note)
        work.moved(report.step / report.steps if report.steps else 0.0, _text(report), report)
        if report.samples:
            work.note(_sample(report))

    trained = work.tools.train(job, progress)
    kind = trained.model.name
    record = work.keep_bytes(_record(trained), RECORD)
    files = (record, *work.keep_folder(trained.model, kind))
    facts = _facts(trained, notes)
    return Result(files=files, extras=_curve(work, trained), facts=facts, partial=trained.cut == "asked")


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


def _sample(report: Progress) -> str:
    """The first answer, on a line."""
    first = report.samples[0]
    question, answer = on_a_line(first.question, _SHOWN), said(first, _SHOWN)
    return f"step {report.step}/{report.steps}  {question} -> {answer}"


def _record(trained: TrainResult) -> bytes:
    """What the training was, without what differs from run to run: evidence."""
    values = {"schema": 1, "kind": "training", **{key: getattr(trained, key) for key in _EVIDENCE}}
    if trained.library:
        values["library"] = trained.library
    if trained.cut:
        values |= {"cut": trained.cut, "planned": trained.planned}
    return msgspec.json.encode(values, order="sorted")


def _facts(trained: TrainResult, notes: list[str]) -> dict[str, object]:
    first_last = {"first_loss": trained.losses[0], "last_loss": trained.losses[-1]} if trained.losses else {}
    held_out = {"held_out_loss": trained.held_out_losses[-1].loss} if trained.held_out_losses else {}
    cut = {"cut": trained.cut, "planned": trained.planned} if trained.cut else {}
    return {**{key: getattr(trained, key) for key in _FACTS}, **first_last, **held_out, **cut, "notes": notes}


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
