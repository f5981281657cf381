"""The scrub reads what is due, no faster than it may, finds decay that leaves no trace, and ends when told."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freehold.core.errors import Damaged
from freehold.serving.scrub import Scrub
from freehold.store import Store
from freehold.store.check import fsck
from freehold.store.importing import import_gguf
from tests.store import models
from tests.store.models import name


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        import_gguf(opened, models.gguf(tmp_path / "x.gguf", size=1 << 20), name("tiny"))
        yield opened


@contextmanager
def running(scrub: Scrub) -> Iterator[Scrub]:
    scrub.start()
    try:
        yield scrub
    finally:
        scrub.stop()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_everything_is_read_once(store: Store):
    with running(Scrub(store, 1 << 30, delay=0)) as scrub:
        until(lambda: scrub.checked == 2)
    assert scrub.damage == []
    assert store.catalog.due(time.time() - 60) is None, "and not again before its time"
    assert store.catalog.due(time.time() + 60) is not None


def test_decay_is_found_and_not_forgotten(store: Store, caplog: pytest.LogCaptureFixture):
    digest = store.get(name("tiny")).parts[0].digest
    path = store.blobs.path(digest)
    status = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fsck(store) == []
    with running(Scrub(store, 1 << 30, delay=0)) as scrub:
        until(lambda: scrub.checked == 2)
    assert [each.digest for each in scrub.damage] == [str(digest)]
    assert "fsck --repair" in caplog.text
    with pytest.raises(Damaged):
        store.path(digest)
    assert fsck(store) != []


def test_it_reads_no_faster_than_it_may(store: Store):
    begin = time.monotonic()
    with running(Scrub(store, 2 << 20, delay=0)) as scrub:
        until(lambda: scrub.checked == 2)
    assert time.monotonic() - begin > 0.4


def test_it_ends_in_the_middle_of_a_file(store: Store):
    scrub = Scrub(store, 1000, delay=0)
    with running(scrub):
        time.sleep(0.1)
        begin = time.monotonic()
    assert time.monotonic() - begin < 2
    assert scrub.checked <= 1


def test_it_can_be_turned_off(store: Store):
    with running(Scrub(store, 0, delay=0)) as scrub:
        time.sleep(0.05)
    assert scrub.checked == 0
