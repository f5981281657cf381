"""SIGKILL again and again, at any moment: a run of the trainer goes on and ends in the same bytes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.request import Message
from freehold.data.rows import AnyRow, Preference, Row, write_rows
from freehold.tuning.job import TrainJob, TrainResult, decode, encode
from freehold.tuning.launch import train
from tests.recipes.kit import pairs, write_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FREEHOLD_TEST_KILLS", "100"))


def chats() -> list[Row]:
    return [Row((Message("user", question), Message("assistant", answer))) for question, answer in pairs()]


def preferences() -> list[Preference]:
    wrong = (Message("assistant", "Nobody knows."),)
    return [Preference(row.messages[:1], chosen=row.messages[1:], rejected=wrong) for row in chats()]


def job_of(folder: Path, rows: Sequence[AnyRow], **fields: object) -> TrainJob:
    write_base(folder / "base", hidden=64, layers=2)
    write_rows(folder / "train.jsonl", rows[:60])
    write_rows(folder / "held_out.jsonl", rows[60:])
    values: dict[str, object] = {
        "out": folder / "unbroken", "base": folder / "base", "train": folder / "train.jsonl",
        "held_out": folder / "held_out.jsonl", "batch_tokens": 256, "learning_rate": 3e-3, "rank": 4, "dtype": "f32",
        "threads": 1, "evaluations": 9,
    }  # fmt: skip
    return TrainJob(**(values | fields))  # type: ignore[arg-type]


def killed(job: TrainJob, folder: Path, kills: int) -> TrainResult:
    """The job in another folder, with a checkpoint after each step, killed so many times."""
    fields = {name: getattr(job, name) for name in job.__struct_fields__}
    other = TrainJob(**(fields | {"out": folder / "killed", "checkpoint_seconds": 1e-9}))
    other.out.mkdir()
    (other.out / "job.json").write_bytes(encode(other))
    command = [sys.executable, "-W", "error", "-m", "tests.faults.trainer_kills", str(other.out / "job.json")]
    done = subprocess.run([*command, str(kills), "7"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:].decode()
    print(done.stderr.decode())
    assert f"{kills} kills" in done.stderr.decode()
    return decode(done.stdout, TrainResult)


def same(job: TrainJob, folder: Path, kills: int) -> None:
    whole = train(job, lambda progress: None)
    assert whole.losses[-1] < whole.losses[0]
    broken = killed(job, folder, kills)
    assert broken.losses == whole.losses
    assert broken.held_out_losses == whole.held_out_losses
    assert (broken.tokens, broken.steps, broken.best_step) == (whole.tokens, whole.steps, whole.best_step)
    assert broken.resumed > 0
    [made], [wanted] = (sorted(result.model.glob("*.safetensors")) for result in (broken, whole))
    assert Digest.of_file(made) == Digest.of_file(wanted)


def test_an_adapter(quick_folder: Path) -> None:
    same(job_of(quick_folder, chats(), steps=3 * KILLS), quick_folder, KILLS)


@pytest.mark.parametrize(
    "fields",
    [
        {"threads": 2},
        {"threads": 2, "base_dtype": "nf4", "dtype": "int8"},
        {"method": "full", "learning_rate": 1e-3},
        {"objective": "dpo"},
        {"patience": 1, "learning_rate": 5e-2},
    ],
    ids=["shares", "shares in 8 bits", "full", "dpo", "patience"],
)
def test_other_runs(quick_folder: Path, fields: dict[str, object]) -> None:
    kills = max(5, KILLS // 10)
    rows: Sequence[AnyRow] = preferences() if "objective" in fields else chats()
    same(job_of(quick_folder, rows, steps=3 * kills, **fields), quick_folder, kills)
