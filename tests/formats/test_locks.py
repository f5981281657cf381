"""A folder has one holder, and none once that is dead."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.core.errors import Conflict
from freehold.formats.locks import locked, sweep

HOLD = """
import sys, time
from pathlib import Path
from freehold.formats.locks import locked
with locked(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def _holder(folder: Path) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with _holder(tmp_path / "a") as child:
        with pytest.raises(Conflict, match=f"process {child.pid}") as caught, locked(tmp_path / "a", "desk"):
            pass
        assert caught.value.exit_code == 2
        child.send_signal(signal.SIGKILL)
    with locked(tmp_path / "a", "desk"):
        assert (tmp_path / "a" / "lock").read_text() == f"{os.getpid()}\n"


def test_sweep_takes_what_the_dead_left(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "rest").write_text("x" * 5000)
    with _holder(tmp_path / "alive") as child:
        assert sweep(tmp_path, dry_run=True) >= 5000
        assert (tmp_path / "dead" / "rest").exists()
        assert 5000 <= sweep(tmp_path) < 5100
        assert [path.name for path in tmp_path.iterdir()] == ["alive"]
        child.kill()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert sweep(tmp_path / "nothing") == 0


def test_lock_is_not_passed_on_to_children(tmp_path: Path) -> None:
    with locked(tmp_path / "a", "it"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    try:
        with locked(tmp_path / "a", "it"):
            pass
    finally:
        child.kill()
        child.wait()
