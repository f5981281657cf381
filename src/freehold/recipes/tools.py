"""The programs that steps call, behind one door: tests pass their own through it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from freehold.engines.base import Engine
from freehold.tuning.job import Backend, Compared, CompareJob, Progress, TrainJob, TrainPlan, TrainResult


@dataclass(frozen=True)
class Tools:
    """What the steps work with. Each is called as its room documents it."""

    require: Callable[[Backend], None]
    """Raises MissingExtra unless tuning with it is possible here."""
    train: Callable[[TrainJob, Callable[[Progress], None]], TrainResult]
    plan: Callable[[TrainJob, Callable[[Progress], None]], TrainPlan]
    compare: Callable[[CompareJob, Callable[[Progress], None]], Compared]
    merge: Callable[[Path, Path, Path], None]
    convert: Callable[[Path, Path], None]
    adapt: Callable[[Path, Path, Path], None]
    """An adapter's folder and its base to a GGUF adapter."""
    quantize: Callable[[Path, Path, str, int, Callable[[int, int], None]], None]
    engine: Callable[[], Engine]
    draw: Callable[[TrainResult, Path], None]
    """Draws the loss curve as PNG."""


def real() -> Tools:
    """The program's own rooms, imported when a step needs them."""
    return Tools(_require, _train, _plan, _compare, _merge, _convert, _adapt, _quantize, _engine, _draw)


def _require(backend: Backend) -> None:
    from freehold.tuning.launch import require_extra

    require_extra(backend)


def _train(job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainResult:
    from freehold.tuning.launch import train

    return train(job, on_progress)


def _plan(job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainPlan:
    from freehold.tuning.launch import plan

    return plan(job, on_progress)


def _compare(job: CompareJob, on_progress: Callable[[Progress], None]) -> Compared:
    from freehold.tuning.launch import compare

    return compare(job, on_progress)


def _merge(base: Path, adapter: Path, out: Path) -> None:
    from freehold.tuning.merge import merge

    merge(base, adapter, out)


def _convert(folder: Path, out: Path) -> None:
    from freehold.convert import to_gguf

    to_gguf(folder, out)


def _adapt(adapter: Path, base: Path, out: Path) -> None:
    from freehold.convert import adapter_to_gguf

    adapter_to_gguf(adapter, base, out)


def _quantize(source: Path, out: Path, kind: str, threads: int, on_progress: Callable[[int, int], None]) -> None:
    from freehold.convert import quantize

    quantize(source, out, kind, threads=threads, on_progress=on_progress)


def _engine() -> Engine:
    from freehold.engines.llamacpp import LlamaCpp

    return LlamaCpp()


def _draw(trained: TrainResult, path: Path) -> None:
    from freehold.tuning.plot import draw

    draw(trained.losses, trained.held_out_losses, path)
