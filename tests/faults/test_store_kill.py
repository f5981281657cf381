"""SIGKILL at any point of what changes the store leaves it clean, every model whole, and the operation repeatable."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.store import Store
from tests.faults.store_kills import OPERATIONS, Scene
from tests.store.models import assert_whole, name

ROOT = Path(__file__).parents[2]
STRIDE = int(os.environ.get("FREEHOLD_TEST_STRIDE", "1"))
"""One place of so many is tried. Continuous integration has no time for each."""
# Calls between kills: a dozen kills of each in the quick run. Odd, so that both sides of calls have their turn.
STEPS = {
    "gguf": 31,
    "replace": 41,
    "folder": 87,
    "move": 33,
    "remove": 15,
    "prune": 9,
    "remember": 25,
    "create": 19,
    "materialise": 9,
    "upgrade": 9,
}


def sweep(operation: str, folder: Path, first: int, step: int) -> int:
    """How often it was killed; fails when the store did not survive."""
    command = [sys.executable, "-W", "error", "-m", "tests.faults.store_kills", operation, str(folder / "kills")]
    done = subprocess.run([*command, str(first), str(step)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_some_calls(quick_folder, operation):
    assert sweep(operation, quick_folder, 1 + len(operation), STEPS[operation]) >= 6


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_call(quick_folder, operation):
    """After one call is before the next: every other place covers all states of the disk."""
    assert sweep(operation, quick_folder, 1, STRIDE * (6 if operation == "folder" else 2)) > 25 // STRIDE


def test_two_processes_killed_at_random_times(quick_folder):
    assert sweep("storm", quick_folder, 6, 1) == 12


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_killed_at_many_random_times(quick_folder):
    assert sweep("storm", quick_folder, 60, 2) == 120


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["pwrite64", "write", "fdatasync", "fsync", "unlink", "rename"])
def test_killed_at_system_calls_inside_sqlite_too(quick_folder, call):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    template = Scene(quick_folder / "template")
    template.folder.mkdir()
    template.build()
    script = "import sys; from pathlib import Path; from tests.faults.store_kills import *; "
    script += "OPERATIONS['gguf'](Scene(Path(sys.argv[1])))"
    for number in range(1, 200, 1 if call != "pwrite64" else 4):
        scene = Scene(quick_folder / f"{call}{number}")
        shutil.copytree(template.folder, scene.folder)
        inject = [strace, "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
        command = [*inject, sys.executable, "-B", "-c", script, str(scene.folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if "ptrace" in done.stderr:
            pytest.skip("strace may not trace here")
        with scene.store() as store:
            assert_whole(store)
        if done.returncode == 0:
            assert number > 1
            return
        OPERATIONS["gguf"](scene)
        with Store.open(scene.home) as store:
            assert_whole(store)
            assert store.get(name("new"))
        shutil.rmtree(scene.folder)
    pytest.fail("never came to its end")
