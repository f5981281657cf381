"""The whole chain with the real trainer, converter, quantiser and engine, on a tiny base; killed and resumed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.recipes.kit import write_base, write_csv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECIPE = """
[model]
name = "desk"
base = "base"
[data]
path = "desk.csv"
held_out = 0.2
[tune]
method = "{method}"
learning_rate = 3e-3
epochs = 6
batch_tokens = 256
max_length = 200
dtype = "f32"
threads = 1
checkpoint_seconds = 0.001
[quantize]
types = ["Q8_0", "Q4_K_M"]
[evaluate]
rows = 4
max_tokens = 16
[gate]
min_gain = -1.0
max_quantized_drop = 1.0
"""


def _command(folder: Path, home: Path, *args: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "FREEHOLD_HOME": str(home), "OMP_NUM_THREADS": "1", "FREEHOLD_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "freehold", *args],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _made(folder: Path, home: Path) -> dict[str, object]:
    with _command(folder, home, "make", "recipe.toml", "--json") as child:
        out, err = child.communicate()
    assert child.returncode == 0, err
    outcome: dict[str, object] = json.loads(out)
    return outcome


def _stop_while_tuning(folder: Path, home: Path, number: signal.Signals) -> None:
    """Start a run and stop it once its trainer has written a checkpoint."""
    begin = time.time_ns()
    with _command(folder, home, "make", "recipe.toml") as child:
        deadline = time.monotonic() + 300
        while not _checkpoint_since(home, begin):
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(number)
        child.communicate()
    assert child.returncode == (130 if number == signal.SIGINT else -number)


def _checkpoint_since(home: Path, begin: int) -> bool:
    for path in (home / "runs" / "resumable").glob("*/out/checkpoint/state.json"):
        with contextlib.suppress(FileNotFoundError):  # the trainer replaces it
            if path.stat().st_mtime_ns > begin:
                return True
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    write_base(place / "base", hidden=64, layers=2)
    write_csv(place / "desk.csv")
    return place


@pytest.mark.parametrize("method", ["lora", "full"])
def test_stopped_and_resumed_runs_make_the_same_model(folder: Path, tmp_path: Path, method: str) -> None:
    (folder / "recipe.toml").write_text(RECIPE.format(method=method))
    unbroken = _made(folder, tmp_path / "one")
    _stop_while_tuning(folder, tmp_path / "two", signal.SIGKILL)
    _stop_while_tuning(folder, tmp_path / "two", signal.SIGINT)
    resumed = _made(folder, tmp_path / "two")
    assert resumed["names"] == unbroken["names"]
    assert resumed["training"]["resumed"] >= 1  # type: ignore[index]
    with _command(folder, tmp_path / "two", "fsck", "--deep") as child:
        child.communicate()
    assert child.returncode == 0


def test_killed_after_training_it_does_not_train_again(folder: Path, tmp_path: Path) -> None:
    (folder / "recipe.toml").write_text(RECIPE.format(method="lora"))
    home = tmp_path / "one"
    with _command(folder, home, "make", "recipe.toml") as child:
        deadline = time.monotonic() + 300
        while not any((home / "runs" / "resumable").glob("*/loss.csv")):
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.001)
        child.kill()
        child.communicate()
    resumed = _made(folder, home)
    assert resumed["training"]["resumed"] == 1  # type: ignore[index]
    assert resumed["names"] == _made(folder, tmp_path / "two")["names"]


def test_from_nothing(folder: Path, tmp_path: Path) -> None:
    """Method scratch: no base, no gain over it, a tokenizer of its own."""
    text = RECIPE.format(method="scratch").replace('base = "base"\n', "").replace("min_gain = -1.0\n", "")
    shape = "vocab = 300\nhidden = 64\nlayers = 1\nheads = 4\nkv_heads = 2\nintermediate = 96\ncontext = 256\n"
    (folder / "recipe.toml").write_text(text.replace("[quantize]", shape + "[quantize]"))
    outcome = _made(folder, tmp_path / "one")
    assert [line["model"] for line in outcome["measured"]] == ["tuned", "Q8_0", "Q4_K_M"]  # type: ignore[attr-defined]
    assert list(outcome["names"]) == ["desk", "desk:q4_k_m", "desk:weights"]  # type: ignore[call-overload]
    with _command(folder, tmp_path / "one", "run", "desk", "Hello", "--max-tokens", "4") as child:
        child.communicate()
    assert child.returncode == 0


def test_answers_longer_than_the_context_are_counted(folder: Path, tmp_path: Path) -> None:
    rows = [(f"Question number {n} about things", "word " * (400 if n < 3 else 4)) for n in range(30)]
    rows = [
        (f"{'abcdefghijklmnopqrstuvwxyz'[n % 26] * (n + 3)} is what?", answer) for n, (_, answer) in enumerate(rows)
    ]
    write_csv(folder / "desk.csv", rows)
    (folder / "recipe.toml").write_text(RECIPE.format(method="full").replace("epochs = 6", "steps = 2"))
    with _command(folder, tmp_path / "one", "make", "recipe.toml") as child:
        _, err = child.communicate()
    assert "are longer than 200 tokens and lose their end" in err
