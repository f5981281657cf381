"""Which process holds something: its pid, and when it was born, since pids are used again."""

from functools import cache
from os import getpid
from pathlib import Path

import psutil


def birth(pid: int) -> str:
    """When a process started, in its kernel's terms; empty when none runs with this pid."""
    try:
        # Ticks since boot: psutil's wall-clock time moves when the clock is set, and a live holder would look dead.
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _birth_by_clock(pid) if not Path("/proc/self/stat").exists() else ""
    # A zombie was killed already and only waits for its parent to notice.
    return "" if fields[0] in ("Z", "X") else fields[19]


def _birth_by_clock(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return ""


@cache
def _own_birth(pid: int) -> str:
    return birth(pid)


def me() -> tuple[int, str]:
    """This process: pid and birth."""
    pid = getpid()
    return pid, _own_birth(pid)


def alive(pid: int, born: str) -> bool:
    """Whether the process that was born then still runs."""
    return bool(born) and birth(pid) == born
