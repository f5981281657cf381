"""What Linux alone offers, and what is done without it."""

import os
from pathlib import Path

import pytest

from freehold.core import system


def test_cores_are_those_that_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert system.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert system.cores() == len(allowed)


def test_where_nobody_says_what_may_be_used_all_cores_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.cores() == os.cpu_count()


@pytest.mark.parametrize("lacking", [False, True])
def test_a_file_is_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: bool):
    if lacking:
        monkeypatch.delattr(os, "fdatasync")
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"x")
        system.write_through(file.fileno())
        closed = os.dup(file.fileno())
    os.close(closed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        system.write_through(closed)
