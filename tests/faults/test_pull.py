"""Pulls that are killed go on where they were; pulls onto a full disk leave nothing, and work when there is room."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import DiskFull
from freehold.core.settings import Settings
from freehold.store import Store
from freehold.store.blobs import Blobs
from freehold.store.fetching import CONNECTIONS, Remote, fetch
from freehold.store.outbound import Outbound
from tests.faults.test_disk_full import MIB, fill, small_disk
from tests.store.models import assert_whole, blob_count
from tests.store.servers import CHUNK, Site, serving

ROOT = Path(__file__).parents[2]
LOST = CONNECTIONS * (4 * CHUNK + (1 << 20))
"""Bytes that may be on their way when the kill comes: in the sockets' buffers of each connection."""

__all__ = ["small_disk"]


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


def killed_after(folder: Path, file: Remote, site: Site, bytes_sent: int) -> None:
    """Start a pull in a process of its own and kill it when the server has sent so much."""
    arguments = [str(folder), file.url, str(file.size), str(file.digest)]
    with subprocess.Popen([sys.executable, "-m", "tests.faults.pull_kills", *arguments], cwd=ROOT) as process:
        while site.total < bytes_sent and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode in (0, -signal.SIGKILL)


def sweep(tmp_path: Path, site: Site, kills: int, size: int) -> None:
    data = random.Random(4).randbytes(size)
    digest, draw = Digest.of_bytes(data), random.Random(5)
    file = Remote(filename="x", url=site.add("/x", data), size=size, digest=digest)
    site.pause = lambda: time.sleep(0.001)
    points = sorted(draw.randrange(size) for _ in range(kills))
    for number, point in enumerate(points):
        killed_after(tmp_path / "store", file, site, point + number * 1000)
        assert blob_count_of(tmp_path / "store") == 0 or site.total >= size
    with Store.open(tmp_path / "store") as store, Outbound(Settings(home=tmp_path)) as outbound, store.lease():
        assert fetch(store, outbound, [file]) == [digest]
        assert store.path(digest).read_bytes() == data
        assert_whole(store)
        assert list((tmp_path / "store" / "partial").iterdir()) == []
    assert site.total <= size + kills * LOST
    assert site.total < size + kills * size // 4, "whole parts were fetched again"


def blob_count_of(folder: Path) -> int:
    return sum(1 for _ in Blobs(folder).files())


def test_a_pull_that_is_killed_twice(tmp_path: Path, site: Site):
    sweep(tmp_path, site, 2, 24 << 20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pull_that_is_killed_at_twenty_points(tmp_path: Path, site: Site):
    sweep(tmp_path, site, 20, 96 << 20)


def test_a_pull_that_does_not_fit(small_disk: Path, tmp_path: Path, site: Site):
    large = Remote(filename="large", url=site.add("/large", bytes(12 * MIB)), size=12 * MIB)
    little = Remote(filename="little", url=site.add("/little", b"x" * MIB), size=MIB)
    with Store.open(small_disk / "store") as store, Outbound(Settings(home=tmp_path)) as outbound, store.lease():
        with pytest.raises(DiskFull, match=r"12\.6 MB needed|13\.6 MB needed"):
            fetch(store, outbound, [little, large])
        assert site.total == 0, "room is made before the first byte"
        assert list((store.folder / "partial").iterdir()) == []
        assert fetch(store, outbound, [little]) == [Digest.of_bytes(b"x" * MIB)]
        assert_whole(store)


def test_a_disk_that_others_fill_meanwhile(small_disk: Path, tmp_path: Path, site: Site):
    """What was reserved stays ours; what was not is refused, leaves nothing, and works when there is room again."""
    file = Remote(filename="x", url=site.add("/x", b"y" * (3 * MIB)), size=3 * MIB)
    with Store.open(small_disk / "store") as store, Outbound(Settings(home=tmp_path)) as outbound, store.lease():
        ballast = fill(small_disk, leave=2 * MIB)
        with pytest.raises(DiskFull):
            fetch(store, outbound, [file])
        assert list((store.folder / "partial").iterdir()) == []
        assert blob_count(store) == 0
        ballast.unlink()
        filled: list[Path] = []
        site.pause = lambda: filled or filled.append(fill(small_disk, leave=MIB // 2))
        fetch(store, outbound, [file])
        assert filled
        assert_whole(store)
