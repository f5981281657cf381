"""A run that is asked to end with what it has learned so far, and to make of it what its recipe says."""

import time
from pathlib import Path

from freehold.core.errors import Conflict
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_errors
from freehold.recipes.records import Record, find, place_of
from freehold.recipes.steps.tune import OUT
from freehold.tuning.launch import begun

_REQUEST = "keep"
_PATIENCE = 60.0
"""Seconds in which a step, and a look at held-out rows, are usually over."""


def request_of(settings: Settings, record: Record) -> Path:
    """The file that asks the run for it. It is there until the record is: stopped on its way, the run stays cut."""
    return place_of(settings, record.run) / _REQUEST


def may_cut(record: Record) -> bool:
    """Whether there is a checkpoint to take, of the only training of a run that has stopped."""
    return record.task == "tune" and record.place is not None and begun(record.place / OUT)


def remedy_of(record: Record) -> str:
    """What an interrupted run may do besides going on."""
    return f"or keep what it has learned so far: freehold runs stop {record.run} --keep"


def ask(settings: Settings, record: Record) -> None:
    """Ask a run to end with what it has learned; one that does not run has to be gone on with. Raises Conflict."""
    if record.now == "done":
        raise Conflict(f"{record.run} is done: it has all that it was to learn", "'freehold runs' lists those that run")
    if record.task.startswith("tune "):
        raise Conflict(
            f"{record.run} tries several settings and takes the best of them, of which each is learned to its end",
            "Stop it without --keep, and give the settings that it has tried: they are not learned again",
        )
    if record.task != "tune":
        raise Conflict(
            f"{record.run} does not learn: it is in the step {record.task!r}", "Leave out --keep to stop it there"
        )
    if record.now != "running" and not may_cut(record):
        raise Conflict(
            f"{record.run} has learned nothing that could be kept: it has no checkpoint",
            f"Go on with it: freehold runs resume {record.run}",
        )
    path = request_of(settings, record)
    with disk_errors(path):
        path.touch()


def wait(settings: Settings, record: Record) -> Record:
    """The record once its tuning has ended, or as it is when that takes long."""
    end = time.monotonic() + _PATIENCE
    while record.now == "running" and record.task == "tune" and time.monotonic() < end:
        time.sleep(0.05)
        record = find(settings, record.run)
    return record
