"""What operating systems do not have alike: what Linux alone offers, and what is done elsewhere instead."""

import contextlib
import ctypes
import os
import signal
import sys


def cores() -> int:
    """That this process may use; macOS only says how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_linux() -> bool:
    """Whether this is Linux; macOS does not let libraries live on in a process that is forked beside threads."""
    return sys.platform == "linux"


def write_through(descriptor: int) -> None:
    """Have what was written to a file on the disk, and of its metadata what reading it takes. Raises OSError."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # macOS
        os.fsync(descriptor)


def end_with_parent() -> None:
    """Have this process killed when the one that forked it ends; elsewhere than on Linux it must see to it itself."""
    if not on_linux():
        return
    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
