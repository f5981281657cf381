"""What operating systems do not have alike: what Linux alone offers, and what is done elsewhere instead."""

import os


def cores() -> int:
    """That this process may use; macOS only says how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_through(descriptor: int) -> None:
    """Have what was written to a file on the disk, and of its metadata what reading it takes. Raises OSError."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # macOS
        os.fsync(descriptor)
