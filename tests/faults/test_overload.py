"""A whole server with too many clients, slow ones, ones that leave, and workers that die: `bench.overload`, shortly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEATHS = os.environ.get("FREEHOLD_TEST_DEATHS", "50")
"""Of each of four kinds. Continuous integration has time for fewer."""
LONG_ENOUGH = ["--seconds", "8", "--times", "5", "--hangs", "1"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", ["flood", "slow", "leave", "kill"])
def test_nobody_is_left_without_an_answer(scene: str) -> None:
    """Hangs are found after as long as they are by default."""
    check(scene, LONG_ENOUGH)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_server_survives_the_deaths_of_two_hundred_workers() -> None:
    check("kill", ["--times", DEATHS, "--hangs", DEATHS], {"FREEHOLD_STALL_SECONDS": "2"})


def check(scene: str, length: list[str], settings: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "bench.overload", scene, *length]
    environment = {**os.environ, **(settings or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert f"{scene}: " in done.stdout, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "WRONG" not in done.stdout, done.stdout
