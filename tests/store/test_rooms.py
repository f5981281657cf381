"""Folders for files that are being made, and what is left of them by processes that were killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from freehold.store import Store
from freehold.store.check import prune
from freehold.store.rooms import ROOMS, room


@pytest.fixture
def dead() -> int:
    """The pid of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def abandoned(root: Path, pid: int) -> Path:
    folder = root / f"{pid}-123-0123abcd"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "file").write_bytes(b"x" * 1000)
    return folder


def test_a_room_goes_and_takes_what_the_dead_left(tmp_path: Path, dead: int) -> None:
    left = abandoned(tmp_path, dead)
    (tmp_path / "not ours").mkdir()
    with room(tmp_path) as outer:
        assert not left.exists()
        with room(tmp_path) as inner:
            assert outer.exists()
            assert inner != outer
        assert oct(outer.stat().st_mode & 0o777) == "0o700"
    assert [path.name for path in tmp_path.iterdir()] == ["not ours"]


def test_a_room_goes_when_its_block_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with room(tmp_path) as folder:
            (folder / "file").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


def test_prune_takes_what_the_dead_left_and_counts_it(store: Store, dead: int) -> None:
    left = abandoned(store.folder / ROOMS, dead)
    with store.room() as mine:
        again = abandoned(store.folder / ROOMS, dead)
        for dry_run in (True, False):
            found = prune(store, dry_run=dry_run)
            assert (found.temporary, found.size) == (1, 1000)
        assert mine.exists()
    assert not left.exists()
    assert not again.exists()
