"""Where a run's figures go beside its own record: TensorBoard's event files, W&B offline, Trackio on this machine."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import msgspec

from freehold.core.errors import MissingExtra
from freehold.recipes.records import Point, Record
from freehold.recipes.schema import RecipeFile
from freehold.recipes.sweep import chosen

Write = Callable[[Point], None]
Tracker = Callable[[Record, Path, str], AbstractContextManager[Write]]
"""Of a run's record, the record's folder, and of a sweep the candidate."""

_NAMES = {
    "loss": "train/loss",
    "gradient_norm": "train/grad_norm",
    "tokens_per_second": "train/tokens_per_second",
    "memory": "train/memory",
    "tokens": "train/tokens",
    "held_out_loss": "eval/loss",
}
"""As transformers' Trainer calls them, so that a board shows runs of both side by side."""
_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}


def known(name: str) -> Tracker | None:
    """The tracker of this name, which the schema knows; None for "". Raises MissingExtra naming its package."""
    if not name:
        return None
    if find_spec(_PACKAGES[name]) is None:
        extra = "'freehold[watch]'" if name == "tensorboard" else _PACKAGES[name]
        raise MissingExtra(
            f"log = {name!r} needs {_PACKAGES[name]}, which this installation lacks", f"Run: pip install {extra}"
        )
    return {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}[name]


def values(point: Point) -> dict[str, float]:
    """A point's figures by the names that boards show. NaN is what nobody can draw, and is left out."""
    found = ((name, getattr(point, field)) for field, name in _NAMES.items())
    return {name: float(value) for name, value in found if value is not None and math.isfinite(value)}


@contextmanager
def tracking(tracker: Tracker, file: RecipeFile, record: Record, place: Path) -> Iterator[Write]:
    """One writer for the points of a run, of which each candidate of a sweep is a run of its own on the board."""
    with ExitStack() as opened:
        task: str | None = None
        write_one: Write

        def write(point: Point) -> None:
            nonlocal task, write_one
            if point.task != task:
                opened.close()
                task, candidate = point.task, point.task.partition(" ")[2]
                own = _of_candidate(file, record, candidate) if candidate else record
                write_one = opened.enter_context(tracker(own, place, candidate))
            write_one(point)

        yield write


def _of_candidate(file: RecipeFile, record: Record, candidate: str) -> Record:
    settings = {f"tune.{key}": value for key, value in chosen(file.recipe.tune, candidate).items()}
    run = f"{record.run} {candidate}"
    return msgspec.structs.replace(record, run=run, settings=record.settings | settings)


@contextmanager
def _tensorboard(record: Record, place: Path, candidate: str) -> Iterator[Write]:
    """Event files in the record's folder `tensorboard`, a folder in it for each candidate; the settings as text."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(place / "tensorboard" / candidate.replace(" ", ",")))

    def write(point: Point) -> None:
        for name, value in values(point).items():
            writer.add_scalar(name, value, point.step, walltime=point.time)
        for number, each in enumerate(point.samples, 1):
            text = f"{_verbatim(each.question)}\n\n---\n\n{_verbatim(each.answer)}"
            writer.add_text(f"eval/sample_{number}", text, point.step, walltime=point.time)
        writer.flush()

    rows = "".join(f"| {key} | {value} |\n" for key, value in record.settings.items() if value not in ("", [], {}))
    writer.add_text("settings", f"| key | value |\n| --- | --- |\n{rows}")
    writer.flush()
    try:
        yield write
    finally:
        writer.close()


def _verbatim(text: str) -> str:
    """A text in the board's Markdown, of which none is read as such."""
    return "\n".join(f"    {line}" for line in text.splitlines())


@contextmanager
def _wandb(record: Record, place: Path, candidate: str) -> Iterator[Write]:
    """W&B's files in the record's folder `wandb`; 'wandb sync' sends them, when and if the user wants that."""
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    import wandb

    settings = wandb.Settings(mode="offline", x_disable_stats=True, disable_git=True, console="off")
    run = wandb.init(
        project=record.name.replace("/", "-").replace(":", "-"),
        name=record.run,
        dir=str(place),
        config=record.settings,
        settings=settings,
    )
    try:
        yield lambda point: run.log(values(point), step=point.step)
    finally:
        run.finish()


@contextmanager
def _trackio(record: Record, place: Path, candidate: str) -> Iterator[Write]:
    """Trackio's database in the record's folder `trackio`; 'trackio show' reads it there."""
    os.environ |= {"TRACKIO_DIR": str(place / "trackio"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import trackio

    # It prints to stdout, which is the command's own.
    with redirect_stdout(sys.stderr):
        run = trackio.init(
            project=record.name.replace("/", "-").replace(":", "-"),
            name=record.run,
            config=msgspec.to_builtins(record.settings),
            embed=False,
        )
    try:
        yield lambda point: run.log(values(point), step=point.step)
    finally:
        with redirect_stdout(sys.stderr):
            run.finish()
