"""The trainer's process: `python -m freehold.tuning.child JOB.json`. Reports are JSON lines on stdout."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from freehold.core.errors import DiskFull, FreeholdError, NotEnoughMemory
from freehold.formats.atomic import no_room
from freehold.formats.locks import locked
from freehold.tuning.job import Report, TrainError, TrainJob, decode, encode

Say = Callable[[Report], None]


def main() -> int:
    """Train; the exit code says only whether it went well, the reports say why not."""
    job = decode(Path(sys.argv[1]).read_bytes(), TrainJob)

    def work(say: Say) -> Report:
        with locked(job.out, f"what is tuned in {job.out}"):
            from freehold.tuning.trainer import Trainer

            return Trainer(job, say).run()

    return reporting(job.out, work)


def reporting(out: Path, work: Callable[[Say], Report]) -> int:
    """Do it, its reports and its answer or error on what was stdout; the exit code. `out` is where it writes."""
    # Whatever a library prints must not mix with the reports.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(report: Report) -> None:
        reports.write(encode(report) + b"\n")

    try:
        say(work(say))
    except KeyboardInterrupt:
        return 130
    except FreeholdError as error:
        failure = error
    except MemoryError:
        failure = NotEnoughMemory("memory ran out while tuning", "Lower batch_tokens or max_length")
    except OSError as error:
        full = no_room(error.errno, out)
        if full is None:
            raise
        failure = DiskFull(full.message, f"{full.remedy}; the same command goes on from the last checkpoint")
    else:
        return 0
    say(TrainError(type(failure).__name__, failure.message, failure.remedy))
    return 1


if __name__ == "__main__":
    sys.exit(main())
