"""Memory of processes, each page once."""

import os
import signal
import sys
import time

import pytest

from freehold.core.resident import Held

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
SIZE = 64 << 20


def touched() -> bytearray:
    made = bytearray(SIZE)
    made[:: 1 << 12] = b"x" * len(made[:: 1 << 12])
    return made


def test_private_memory_is_seen() -> None:
    held = Held(os.getpid())
    before = held.now()
    kept = touched()
    after = held.now()
    assert after.private - before.private > 0.9 * SIZE
    assert after.resident - before.resident > 0.9 * SIZE
    del kept


def test_what_two_share_is_counted_once_and_what_one_writes_anew_is_added() -> None:
    kept = touched()
    alone = Held(os.getpid()).now()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        kept[: SIZE // 2 : 1 << 12] = b"y" * len(kept[: SIZE // 2 : 1 << 12])
        os.write(writing, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    held = Held(os.getpid())
    held.add(child)
    found = held.now()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert SIZE // 2 < found.private - alone.private < SIZE
    held.only([os.getpid()])
    assert held.now().private < found.private
    os.close(reading)
    os.close(writing)


def test_who_has_ended_holds_nothing() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    held = Held(os.getpid())
    alone = held.now()
    held.add(child)
    assert abs(held.now().private - alone.private) < SIZE
