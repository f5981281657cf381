"""The trainer as a child process: its memory returns when it ends, and its death is an error, not ours."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import msgspec

from freehold.core import errors
from freehold.core.system import end_with_parent
from freehold.tuning.job import (
    LOG,
    Backend,
    Compared,
    CompareJob,
    Progress,
    Report,
    TrainError,
    TrainJob,
    TrainPlan,
    TrainResult,
    decode,
    encode,
)

Answer = TypeVar("Answer", TrainResult, TrainPlan, Compared)
_KEEP = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION",
)  # fmt: skip
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "true",
    # Threads that wait by spinning fall to a crawl beside one busy neighbour.
    "GOMP_SPINCOUNT": "1000",
    # Keep freed activations instead of returning them to the kernel each step: 15 % more tokens per second measured.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "67108864",
    # One heap for all threads: what one of them frees is of use to the others.
    "MALLOC_ARENA_MAX": "1",
    # Each product that oneDNN keeps ready takes half a megabyte, and it would keep 1,024. A step of one size needs some
    # 70; making one anew takes a millisecond.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
    # Without it cuBLAS refuses every product, since its order is not always the same.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Steps are of many sizes: without it a GPU's memory is left in pieces that fit none of them.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    # What torch cannot do on Apple's GPUs is done by the processor.
    "PYTORCH_ENABLE_MPS_FALLBACK": "1",
}
_NO_ROOM = "memory allocation of"
"""Said by the libraries that are written in Rust before they abort."""
_PATIENCE = 30.0
"""Seconds in which an interrupted trainer may write its checkpoint."""


def require_extra(backend: Backend = "freehold") -> None:
    """Raises MissingExtra unless training is possible in this installation, with `backend` to compute the model."""
    missing = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
    if missing:
        raise errors.MissingExtra(
            f"tuning needs {', '.join(missing)}, which this installation lacks", "Run: pip install 'freehold[tune]'"
        )
    if backend == "unsloth" and find_spec("unsloth") is None:
        raise errors.MissingExtra(
            "backend unsloth needs the package unsloth, which this installation lacks", "Run: pip install unsloth"
        )


def begun(out: Path) -> bool:
    """Whether a training that was stopped left a checkpoint there, to go on from."""
    return any((out / name / "state.json").exists() for name in ("checkpoint", "checkpoint.old"))


def plan(job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainPlan:
    """What `job`, which asks for a probe, would take. Raises what `train` does."""
    return _run(job, on_progress, TrainPlan)


def train(job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainResult:
    """Run `job` to its end, or on from its last checkpoint.

    Raises BadInput, MissingExtra, BadData, BadModelFile, NotEnoughMemory, DiskFull, WorkerFailed; Interrupted after a
    KeyboardInterrupt, with a checkpoint written.
    """
    return _run(job, on_progress, TrainResult)


def compare(job: CompareJob, on_progress: Callable[[Progress], None]) -> Compared:
    """Compare answers. Raises MissingExtra, BadModelFile, Unsupported, NotEnoughMemory, WorkerFailed, Interrupted."""
    return _run(job, on_progress, Compared, "compare_child")


def _run(
    job: TrainJob | CompareJob, on_progress: Callable[[Progress], None], kind: type[Answer], module: str = "child"
) -> Answer:
    """The child's answer, of the kind that `job` asks for."""
    require_extra(job.backend if isinstance(job, TrainJob) else "freehold")
    asked = _checked(job)
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / "job.json"
    path.write_bytes(asked)
    command = [sys.executable, "-P", "-m", f"freehold.tuning.{module}", str(path)]
    with (job.out / LOG).open("wb") as log, _child(command, log.fileno()) as child:
        result = _follow(child, on_progress)
    if not isinstance(result, kind):
        raise _death(child.returncode, job.out / LOG)
    return result


def _checked(job: TrainJob | CompareJob) -> bytes:
    """The job as the child reads it. Raises BadInput for a value that no job can have."""
    asked = encode(job)
    try:
        decode(asked, type(job))
    except msgspec.ValidationError as error:
        raise errors.BadInput(f"no such training: {error}".replace("`$.", "`"), "Change that setting") from error
    return asked


@contextmanager
def _child(command: list[str], log: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: os.environ[name] for name in _KEEP if name in os.environ}
    environment |= ENVIRONMENT
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        preexec_fn=end_with_parent,
    )
    try:
        yield child
    except KeyboardInterrupt as error:
        child.send_signal(signal.SIGINT)
        _end(child)
        raise errors.Interrupted("tuning was interrupted", "Run the same command again to go on") from error
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout:
        child.stdout.close()


def _follow(child: subprocess.Popen[bytes], on_progress: Callable[[Progress], None]) -> Report | None:
    """What it answered; None where it said nothing before it ended."""
    result: Report | None = None
    for line in child.stdout or ():
        try:
            report: Report = decode(line, Report)  # type: ignore[arg-type]
        except (msgspec.DecodeError, UnicodeDecodeError):
            break  # it died in the middle of a report; how it ended says why
        if isinstance(report, Progress):
            on_progress(report)
        elif isinstance(report, TrainError):
            raise getattr(errors, report.kind)(report.message, report.remedy)
        else:
            result = report
    child.wait()
    return result


def _death(code: int, path: Path) -> errors.FreeholdError:
    log = path.read_text("utf-8", "replace")
    if code in (-signal.SIGINT, 130):
        return errors.Interrupted("tuning was interrupted", "Run the same command again to go on")
    if code == -signal.SIGKILL or (code == -signal.SIGABRT and _NO_ROOM in log):
        return errors.NotEnoughMemory(
            "the trainer was killed, most likely because memory ran out",
            'Free memory or set checkpointing = "on": the same command goes on from the last checkpoint; else lower '
            "batch_tokens or max_length",
        )
    last = log.strip().splitlines()[-1:] or ["it said nothing"]
    return errors.WorkerFailed(f"the trainer ended with code {code}: {last[0][:300]}", f"Its log is {path}")
