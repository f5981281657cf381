import asyncio
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest

from freehold.core.errors import WorkerFailed
from freehold.engines.supervisor import Child, Socket, clean_environment, watchdog
from tests.serving.support import in_loop, soon, wait_for

OBEDIENT = """
import sys
document = sys.stdin.readline()
print("ready", document.strip(), flush=True)
sys.stdin.read()
"""
STUBBORN = (
    "import signal,sys,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)
BUSY = "print('ready', flush=True)\nwhile True: sum(range(1000))"
DYING = (
    "import sys; print('0.00 I fine', file=sys.stderr); print('0.01 E no such tensor', file=sys.stderr); sys.exit(3)"
)
CHATTY = """
import sys
for i in range(20000):
    print("x" * 100, i, file=sys.stderr)
print("ready", flush=True)
sys.stdin.read()
"""


def _child(code: str, document: object = None) -> Child:
    return Child([sys.executable, "-c", code], document, clean_environment({}), "a model")


def test_the_environment_holds_no_secrets_and_no_home(monkeypatch: pytest.MonkeyPatch):
    for name in (
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "HOME",
        "SSH_AUTH_SOCK",
        "PYTHONPATH",
        "LD_PRELOAD",
    ):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = clean_environment({"GOMP_SPINCOUNT": "1000"})
    assert "secret" not in found.values()
    assert found["CUDA_VISIBLE_DEVICES"] == "0"
    assert found["GOMP_SPINCOUNT"] == "1000"


def test_the_sockets_folder_is_private(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    place = Socket(folder)
    assert place.path.parent == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert place.path != Socket(folder).path
    place.remove()


def test_a_long_path_falls_back_to_a_private_temporary_folder(tmp_path: Path):
    place = Socket(tmp_path / ("x" * 120))
    assert len(os.fsencode(place.path)) <= 107
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.path))
    place.remove()
    assert not place.path.parent.exists()


@in_loop
async def test_progress_is_told_without_the_bytes_read(monkeypatch: pytest.MonkeyPatch):
    """macOS does not count them."""
    monkeypatch.delattr(psutil.Process, "io_counters")
    child = _child(OBEDIENT)
    await child.first_line(10)
    seconds, read = child.progress()
    assert (seconds >= 0, read) == (True, 0)
    await child.stop()


@in_loop
async def test_a_child_gets_its_document_and_ends_with_its_lifeline():
    child = _child(OBEDIENT, {"a": 1})
    assert await child.first_line(10) == b'ready {"a":1}\n'
    assert child.alive
    began = time.monotonic()
    await child.stop()
    assert time.monotonic() - began < 1.5
    assert not child.alive


@in_loop
async def test_a_stubborn_child_is_killed():
    child = _child(STUBBORN)
    await child.first_line(10)
    await child.stop(grace=0.1)
    assert not child.alive


@in_loop
async def test_stopping_twice_or_after_death_is_fine():
    child = _child(DYING)
    await soon(lambda: not child.alive)
    await child.stop()
    await child.stop()


@in_loop
async def test_a_death_is_told_with_its_last_complaint():
    child = _child(DYING)
    assert await child.first_line(10) == b""
    assert await child.ending() == "ended with 3: 0.01 E no such tensor"
    await child.stop()


@in_loop
async def test_a_kill_is_told_by_its_signal():
    child = _child(OBEDIENT)
    await child.first_line(10)
    os.kill(child.pid, signal.SIGKILL)
    assert await child.ending() == "was killed by signal 9"
    await child.stop()


@in_loop
async def test_a_child_that_is_never_ready_is_given_up():
    child = _child("import time; time.sleep(600)")
    with pytest.raises(WorkerFailed, match="not ready"):
        await child.first_line(0.2)
    await soon(lambda: not child.alive)
    await child.stop()


@in_loop
async def test_a_chatty_child_does_not_block_on_its_own_words():
    child = _child(CHATTY)
    assert await child.first_line(20) == b"ready\n"
    wait_for(lambda: any("19999" in line for line in child.last_words))
    assert len(child.last_words) <= 40
    await child.stop()


@in_loop
async def test_the_watchdog_kills_what_hangs_while_somebody_waits():
    child = _child(BUSY)
    await child.first_line(10)
    async with watchdog(child, limit=0.4) as watch:
        watch.waiting = True
        await asyncio.sleep(1)
        assert child.alive, "slow is not hung"
        os.kill(child.pid, signal.SIGSTOP)
        await soon(lambda: not child.alive)
    assert "no progress" in await child.ending()
    await child.stop()


@in_loop
async def test_the_watchdog_leaves_alone_what_nobody_waits_for():
    child = _child(OBEDIENT)
    await child.first_line(10)
    async with watchdog(child, limit=0.2):
        await asyncio.sleep(0.6)
        assert child.alive
    await child.stop()


@in_loop
async def test_progress_and_memory_of_the_living_and_the_dead():
    child = _child(BUSY)
    await child.first_line(10)
    before = child.progress()
    await soon(lambda: child.progress() > before)
    assert child.memory() > 1 << 20
    await child.stop()
    assert child.progress() == (-1.0, 0)
    assert child.memory() == 0
