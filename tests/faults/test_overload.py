"""A whole server with too many clients, slow ones, ones that leave, and workers that die: `bench.overload`, shortly."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONG_ENOUGH = ["--seconds", "8", "--times", "5"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", ["flood", "slow", "leave", "kill"])
def test_nobody_is_left_without_an_answer(scene: str) -> None:
    command = [sys.executable, "-m", "bench.overload", scene, *LONG_ENOUGH]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert f"{scene}: " in done.stdout, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "WRONG" not in done.stdout, done.stdout
