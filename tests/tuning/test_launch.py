"""The trainer seen from outside: whatever it says, and however it dies, one error in one line names the way on.

A fake trainer takes the place of the interpreter, so that everything else is what a run goes through.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.core import errors
from freehold.core.errors import FreeholdError, Interrupted, NotEnoughMemory, WorkerFailed
from freehold.tuning.job import Architecture, HeldOutLoss, Progress, TrainError, TrainJob, TrainResult, decode, encode
from freehold.tuning.launch import require_extra, train

RESULT = TrainResult(
    model=Path("/made/é"), method="lora", steps=2, tokens=30, supervised_tokens=10, seconds=1.5,
    step_seconds=1.25, losses=(2.5, 1 / 3), held_out_losses=(HeldOutLoss(0, 3.25),),
    rows=4, rows_cut=1, rows_dropped=0, dtype="f32", threads=1, trainable=9,
    resumed=0, peak_rss=1 << 40,
)  # fmt: skip
Fake = Callable[[str], TrainJob]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A trainer that is a shell script; gives a job for it."""

    def install(script: str) -> TrainJob:
        program = tmp_path / "trainer"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        return TrainJob(out=tmp_path / "run" / "deep", train=tmp_path / "rows.jsonl")

    return install


def says(*reports: Progress | TrainResult | TrainError) -> str:
    return "\n".join(f"cat <<'REPORT'\n{encode(report).decode()}\nREPORT" for report in reports)


def refusal(job: TrainJob) -> FreeholdError:
    with pytest.raises(FreeholdError) as caught:
        train(job, lambda progress: None)
    assert "\n" not in caught.value.line()
    return caught.value


def test_every_report_arrives_as_it_was_said(fake: Fake) -> None:
    said = [Progress("loading", note="é\n2"), Progress("training", 1, 2, 2.5, 1e4, 0.1), Progress("saving", 2, 2)]
    heard: list[Progress] = []
    assert train(fake(says(*said, RESULT)), heard.append) == RESULT
    assert heard == said


def test_the_trainer_reads_the_job_that_was_given(fake: Fake) -> None:
    job = fake(f'cp "$4" "$(dirname $4)/seen.json"; echo "$1 $2 $3" >&2\n{says(RESULT)}')
    train(job, lambda progress: None)
    assert decode((job.out / "seen.json").read_bytes(), TrainJob) == job
    # -P: no module is taken from the folder where somebody happens to stand.
    assert (job.out / "trainer.log").read_text() == "-P -m freehold.tuning.child\n"


def test_no_secret_of_the_environment_reaches_the_trainer(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    job = fake(f"env >&2\n{says(RESULT)}")
    train(job, lambda progress: None)
    seen = (job.out / "trainer.log").read_text()
    assert "secret" not in seen
    assert "/elsewhere" not in seen
    assert "HF_HUB_OFFLINE=1" in seen
    assert f"PATH={os.environ['PATH']}" in seen


@pytest.mark.parametrize(
    "kind", ["BadData", "BadModelFile", "DiskFull", "NotEnoughMemory", "Unsupported", "WorkerFailed"]
)
def test_an_error_of_the_trainer_is_the_same_error_here(fake: Fake, kind: str) -> None:
    error = refusal(fake(says(TrainError(kind, "what is wrong", "What to do")) + "\nexit 1"))
    assert type(error) is getattr(errors, kind)
    assert (error.message, error.remedy) == ("what is wrong", "What to do")


@pytest.mark.parametrize(
    ("script", "kind", "message", "remedy"),
    [
        ("kill -9 $$", NotEnoughMemory, "killed", "batch_tokens"),
        ("echo 'memory allocation of 64 bytes failed' >&2; kill -6 $$", NotEnoughMemory, "memory", "checkpointing"),
        ("kill -6 $$", WorkerFailed, "code -6", "trainer.log"),
        ("kill -2 $$", Interrupted, "interrupted", "same command"),
        ("exit 130", Interrupted, "interrupted", "same command"),
        ("kill -11 $$", WorkerFailed, "code -11: it said nothing", "trainer.log"),
        ("exit 0", WorkerFailed, "code 0: it said nothing", "trainer.log"),
        ("printf 'Traceback\\nOSError: no\\n\\n' >&2; exit 1", WorkerFailed, "code 1: OSError: no", "trainer.log"),
        (r"printf 'bad \377 byte\n' >&2; exit 3", WorkerFailed, "code 3: bad \ufffd byte", "log"),
    ],
)  # fmt: skip
def test_how_it_died_is_told(fake: Fake, script: str, kind: type[FreeholdError], message: str, remedy: str) -> None:
    error = refusal(fake(f"{says(Progress('training', 1, 2))}\n{script}"))
    assert type(error) is kind
    assert message in error.message
    assert remedy in error.remedy


def test_where_its_log_is_is_told_in_full(fake: Fake) -> None:
    job = fake("exit 1")
    assert refusal(job).remedy == f"Its log is {job.out / 'trainer.log'}"


def test_a_last_word_without_end_is_cut(fake: Fake) -> None:
    error = refusal(fake("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1"))
    assert "xxx" in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize("half", [encode(RESULT)[:40].decode(), '{"type":"progress","phase":"tr', "x", "{}"])
def test_a_trainer_that_dies_in_the_middle_of_a_report_is_a_dead_trainer(fake: Fake, half: str) -> None:
    error = refusal(fake(f"printf '%s' '{half}'; kill -9 $$"))
    assert type(error) is NotEnoughMemory


def test_nothing_is_started_without_the_packages(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    job = fake("touch $(dirname $3)/started")
    monkeypatch.setattr("freehold.tuning.launch.find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(errors.MissingExtra, match="tuning needs torch, which") as caught:
        train(job, lambda progress: None)
    assert "pip install 'freehold[tune]'" in caught.value.remedy
    assert not job.out.exists()
    monkeypatch.undo()
    require_extra()


def test_an_interrupt_asks_the_trainer_to_end_and_waits_for_it(fake: Fake) -> None:
    job = fake(f"trap 'echo saved >&2; exit 130' INT\n{says(Progress('training', 1, 2))}\nwhile :; do sleep 0.05; done")

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="interrupted"):
        train(job, interrupt)
    assert (job.out / "trainer.log").read_text() == "saved\n"


def test_a_job_and_a_result_come_back_from_their_line() -> None:
    job = TrainJob(out=Path("/a b/é"), train=Path("t"), base=Path("b"), steps=7, alpha=0.5, seed=(1 << 63) - 1)
    for value in (job, RESULT, Progress("x", note='"\n'), TrainError("BadData", "a", "b")):
        assert decode(encode(value), type(value)) == value
        assert b"\n" not in encode(value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rank", 0), ("rank", 4097), ("alpha", 0), ("alpha", 1e6), ("learning_rate", 0), ("learning_rate", 1),
        ("learning_rate", None), ("warmup", 1.01), ("warmup", -0.1), ("epochs", 0), ("steps", -1),
        ("batch_tokens", 15), ("max_length", 15), ("prompt_weight", 2), ("seed", -1), ("seed", 1 << 63),
        ("dtype", "f16"), ("method", "lora2"), ("threads", -1), ("checkpoint_seconds", 0), ("rank", 1.5),
    ],
)  # fmt: skip
def test_no_job_is_outside_the_bounds(key: str, value: object) -> None:
    import msgspec

    fields = json.loads(encode(TrainJob(out=Path("o"), train=Path("t"))))
    decode(json.dumps(fields).encode(), TrainJob)
    with pytest.raises(msgspec.ValidationError, match=key):
        decode(json.dumps(fields | {key: value}).encode(), TrainJob)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learning_rate": 2.0}, "`float` < 1.0 - at `learning_rate`"),
        ({"learning_rate": float("inf")}, "got `null` - at `learning_rate`"),
        ({"rank": 0}, "`int` >= 1 - at `rank`"),
        ({"batch_tokens": 8}, "`int` >= 16 - at `batch_tokens`"),
        ({"method": "qlora"}, "enum value 'qlora' - at `method`"),
        ({"seed": -1}, "at `seed`"),
        ({"warmup": 1.5}, "at `warmup`"),
        ({"epochs": "3"}, "got `str` - at `epochs`"),
        ({"architecture": Architecture(vocab=1)}, "at `architecture.vocab`"),
    ],
)
def test_a_job_that_cannot_be_is_refused_before_it_starts(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    job = TrainJob(out=tmp_path / "run", train=tmp_path / "rows.jsonl", **fields)  # type: ignore[arg-type]
    error = refusal(job)
    assert type(error) is errors.BadInput
    assert said in error.message
    assert not job.out.exists()
