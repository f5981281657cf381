"""What goes wrong in the middle of a run: it says what and why, the last checkpoint stays, and the run goes on."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from freehold.core.errors import BadData, Conflict, DiskFull, NotEnoughMemory, WorkerFailed
from freehold.core.request import Message
from freehold.data.rows import Document, Row, write_rows
from freehold.tuning.job import Progress, TrainJob, TrainResult, decode, encode
from freehold.tuning.launch import train
from tests.convert.torchmodels import write_model
from tests.faults.test_disk_full import fill, small_disk
from tests.tuning.conftest import rows

__all__ = ["small_disk"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Jobs = Callable[..., TrainJob]
Meddle = Callable[[psutil.Process], None]
ALWAYS = 1e-9
"""Seconds between checkpoints: one after each step."""
MANY = 200
"""Steps of which some are left, however late somebody looks."""
JUMPING = """
import sys, time
real, days = time.time, 0
def jump():
    global days
    days = 400 - days
    return real() - 86400.0 * days
time.time, time.time_ns = jump, lambda: int(jump() * 1e9)
from freehold.tuning import child
sys.exit(child.main())
"""


def quiet(_: Progress) -> None:
    return


def child() -> psutil.Process:
    """The trainer that runs."""
    [found] = [each for each in psutil.Process().children() if "freehold.tuning.child" in each.cmdline()]
    return found


def meddled(job: TrainJob, step: int, meddle: Meddle) -> TrainResult:
    """Train, and do something to the trainer at a step, or soon after; it waits meanwhile."""
    return _meddled(job, lambda at: at == step, meddle)


def _meddled(job: TrainJob, now: Callable[[int], bool], meddle: Meddle) -> TrainResult:
    def look(progress: Progress) -> None:
        if progress.phase == "training" and now(progress.step):
            trainer = child()
            trainer.suspend()
            try:
                meddle(trainer)
            finally:
                trainer.resume()

    return train(job, look)


def goes_on(job: TrainJob, out: Path) -> None:
    """The run, given again, ends as one that nothing happened to."""
    state = json.loads((job.out / "checkpoint" / "state.json").read_bytes())
    assert state["step"] > 0
    assert not (job.out / "checkpoint.new").exists()
    resumed = train(job, quiet)
    assert resumed.resumed == 1
    fields = {name: getattr(job, name) for name in job.__struct_fields__}
    whole = train(TrainJob(**(fields | {"out": out})), quiet)
    assert resumed.losses == whole.losses
    [made], [wanted] = (list(result.model.glob("*.safetensors")) for result in (resumed, whole))
    assert made.read_bytes() == wanted.read_bytes()


def test_a_base_of_no_numbers(job: Jobs, base: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in base.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(WorkerFailed, match="not a number at step 0, before anything was learned: the base") as caught:
        train(job(base=broken), quiet)
    assert "base" in caught.value.remedy


def test_a_loss_that_becomes_no_number(tmp_path: Path) -> None:
    """The base has none for a token that comes late; the checkpoint that stays is of numbers."""
    write_model(tmp_path / "base", "Llama")
    words = Tokenizer.from_file(str(tmp_path / "base" / "tokenizer.json"))
    common, odd = "the key of the lamp " * 3, "Привет"
    weights = load_file(tmp_path / "base" / "model.safetensors")
    only = set(words.encode(odd).ids) - set(words.encode(common).ids)
    weights["model.embed_tokens.weight"][sorted(only)] = float("nan")
    save_file(weights, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    write_rows(tmp_path / "rows.jsonl", [Document(common)] * 9 + [Document(odd)])
    asked = TrainJob(
        out=tmp_path / "run", base=tmp_path / "base", train=tmp_path / "rows.jsonl", objective="text", steps=10,
        batch=1, learning_rate=1e-3, dtype="f32", threads=1, checkpoint_seconds=ALWAYS,
    )  # fmt: skip
    said = r"not a number at step ([1-9]): most likely learning_rate 0\.001 is too high, or the base is not whole"
    with pytest.raises(WorkerFailed, match=said) as caught:
        train(asked, quiet)
    assert "last checkpoint is kept" in caught.value.remedy
    kept = asked.out / "checkpoint"
    assert f"at step {json.loads((kept / 'state.json').read_bytes())['step']}:" in caught.value.message
    assert all(bool(torch.isfinite(value).all()) for value in load_file(kept / "state.safetensors").values())


def test_a_loss_that_runs_away(job: Jobs) -> None:
    asked = job(method="full", steps=400, learning_rate=0.9, warmup=0.9, evaluations=0)
    with pytest.raises(WorkerFailed, match=r"risen from \d\.\d+ to \d+\.\d+ at step \d+: it has run away") as caught:
        train(asked, quiet)
    assert "learning_rate, most likely too high at 0.9" in caught.value.remedy


def test_a_loss_that_runs_away_in_the_first_steps_is_seen_on_held_out_rows(job: Jobs) -> None:
    asked = job(method="full", steps=22, learning_rate=0.9, warmup=0.0)
    with pytest.raises(WorkerFailed, match=r"risen from \d\.\d+ to \d+\.\d+ at step 22: it has run away"):
        train(asked, quiet)


def test_a_result_that_is_worse_than_its_base_says_so(job: Jobs) -> None:
    notes: list[str] = []
    train(job(method="full", steps=3, learning_rate=0.01, warmup=0.0), lambda report: notes.append(report.note))
    assert any("the base itself does better" in note for note in notes)


def test_rows_in_which_no_answer_counts(job: Jobs, tmp_path: Path) -> None:
    messages = Message("user", "Who has it?"), Message("assistant", "Ann.")
    write_rows(tmp_path / "rows.jsonl", [Row(messages, weights=(1.0, 0.0))] * 4)
    with pytest.raises(BadData, match=r"no row of rows\.jsonl has an answer that counts"):
        train(job(train=tmp_path / "rows.jsonl"), quiet)


def test_memory_that_runs_out(job: Jobs, tmp_path: Path) -> None:
    """One row needs far more than all before it, and the trainer may not grow any more."""
    long = Row((Message("user", "Ann has the key. " * 1400), Message("assistant", "Ann has it.")))
    write_rows(tmp_path / "rows.jsonl", [*rows(40), long])
    asked = job(
        train=tmp_path / "rows.jsonl", held_out=None, steps=41, batch=1, max_length=30_000, checkpoint_seconds=ALWAYS
    )

    def shut(trainer: psutil.Process) -> None:
        trainer.rlimit(resource.RLIMIT_AS, (trainer.memory_info().vms, resource.RLIM_INFINITY))

    with pytest.raises(NotEnoughMemory, match="memory ran out") as caught:
        meddled(asked, 2, shut)
    assert 'checkpointing = "on", which goes on from the last checkpoint' in caught.value.remedy
    assert "batch_tokens = 256 or max_length = 15000" in caught.value.remedy
    goes_on(asked, tmp_path / "whole")


def test_a_checkpoint_larger_than_files_may_be(job: Jobs, tmp_path: Path) -> None:
    asked = job(steps=MANY, checkpoint_seconds=ALWAYS)
    with pytest.raises(DiskFull, match="no file may be so large on the disk that holds") as caught:
        meddled(asked, 3, lambda trainer: trainer.rlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert "goes on from the last checkpoint" in caught.value.remedy
    goes_on(asked, tmp_path / "whole")


def test_a_disk_that_fills_up(job: Jobs, small_disk: Path, tmp_path: Path) -> None:
    asked = job(steps=MANY, out=small_disk / "run", checkpoint_seconds=ALWAYS)
    ballast: list[Path] = []
    with pytest.raises(DiskFull, match=r"the disk that holds .* is full"):
        # Again and again: a trainer that is writing a checkpoint drops the one before it, which makes room for another.
        _meddled(asked, lambda step: step >= 3, lambda trainer: ballast.append(fill(small_disk, leave=20_000)))
    ballast[0].unlink()
    goes_on(asked, tmp_path / "whole")


def test_two_trainers_on_one_run(job: Jobs) -> None:
    """The second is refused and the first does not notice."""
    asked, refused = job(steps=300), []

    def again(trainer: psutil.Process) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "freehold.tuning.child", str(asked.out / "job.json")], capture_output=True
        )
        refused.append(done.stdout.decode())
        assert str(trainer.pid) in done.stdout.decode()

    result = meddled(asked, 3, again)
    assert "is being made already" in refused[0]
    assert (result.steps, result.resumed) == (300, 0)


def test_the_second_trainer_is_a_conflict(job: Jobs) -> None:
    from freehold.formats.locks import locked

    asked = job()
    with locked(asked.out, "it"), pytest.raises(Conflict, match=f"already, by process {os.getpid()}"):
        train(asked, quiet)


def test_a_clock_that_jumps(job: Jobs, tmp_path: Path) -> None:
    """Durations are measured with one that does not: the date goes back and forth by more than a year at each look."""
    asked = job(steps=12, checkpoint_seconds=ALWAYS)
    asked.out.mkdir()
    (asked.out / "job.json").write_bytes(encode(asked))
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", JUMPING, str(asked.out / "job.json")], capture_output=True)
    took = time.monotonic() - began
    *_, last = done.stdout.splitlines()
    result = decode(last, TrainResult)
    assert 0 < result.seconds < took
    told = [decode(line, Progress) for line in done.stdout.splitlines()[:-1]]
    assert all(0 <= report.seconds_left < 12 * took for report in told)
    whole = train(job(steps=12, out=tmp_path / "whole"), quiet)
    assert result.losses == whole.losses
