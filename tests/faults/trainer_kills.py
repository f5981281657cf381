"""Kills one run of the trainer with SIGKILL at random moments, each time letting it go on, and checks what was lost.

Run as `python -m tests.faults.trainer_kills JOB.json KILLS SEED`. Most lives are forks of this process, so that torch
is imported once; every `_WHOLE`th is a process of its own. Prints the result that the last life reports as one line.
Ends with an error when more was lost than one checkpoint interval.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import freehold.tuning.trainer  # noqa: F401  for those that are forked
from freehold.tuning import child
from freehold.tuning.job import Progress, Report, TrainResult, decode, encode

_REPORTS = 8
"""That a life may make before it is killed, at most."""
_MOMENT = 0.04
"""Seconds after the last of them, at most: a few steps, or a checkpoint."""
_WHOLE = 20


def born(job: Path, number: int) -> tuple[int, BinaryIO]:
    """A new life's process and its reports."""
    reading, writing = os.pipe()
    if number % _WHOLE == 1:
        command = [sys.executable, "-m", "freehold.tuning.child", str(job)]
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)])
    else:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.dup2(writing, 1)
            sys.argv = ["child", str(job)]
            os._exit(child.main())
    os.close(writing)
    return pid, os.fdopen(reading, "rb")


def reports(lines: BinaryIO) -> Iterator[Report]:
    """All that are whole: a killed process may leave half a line."""
    for line in lines:
        if line.endswith(b"\n"):
            yield decode(line, Report)  # type: ignore[arg-type]


def live(job: Path, number: int, draw: random.Random | None) -> tuple[bool, list[Report]]:
    """One life, to its end unless `draw` says when it is killed; whether it was, and all that it reported."""
    pid, lines = born(job, number)
    seen: list[Report] = []
    with lines:
        stream = reports(lines)
        if draw is not None:
            seen.extend(islice(stream, draw.randint(0, _REPORTS)))
            time.sleep(draw.uniform(0, _MOMENT))
            os.kill(pid, signal.SIGKILL)
        seen.extend(stream)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"life {number} ended with {status}: {seen[-1:]}")
    return os.WIFSIGNALED(status), seen


def steps(seen: list[Report]) -> list[int]:
    """The steps that a life did."""
    return [report.step for report in seen if isinstance(report, Progress) and report.phase == "training"]


def main() -> None:
    """A life after the other."""
    job, wanted, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    kills = number = done = lost = 0
    while True:
        number += 1
        killed, seen = live(job, number, draw if kills < wanted else None)
        made = steps(seen)
        if made:
            # A checkpoint follows each step's report: at most that one step is done again.
            if made[0] not in (done, done + 1):
                raise SystemExit(f"life {number} went on at step {made[0]} after step {done}")
            lost += made[0] == done > 0
            done = made[-1]
        kills += killed
        if kills == wanted and not killed:
            break
    print(f"{kills} kills in {number} lives, {lost} steps done twice", file=sys.stderr)
    [result] = [report for report in seen if isinstance(report, TrainResult)]
    sys.stdout.buffer.write(encode(result) + b"\n")


if __name__ == "__main__":
    main()
