"""The trainer's process: `python -m freehold.tuning.child JOB.json`. Reports are JSON lines on stdout."""

import os
import sys
from pathlib import Path

from freehold.core.errors import DiskFull, FreeholdError, NotEnoughMemory
from freehold.tuning.job import Report, TrainError, TrainJob, decode, encode


def main() -> int:
    """Train; the exit code says only whether it went well, the reports say why not."""
    job = decode(Path(sys.argv[1]).read_bytes(), TrainJob)
    # Whatever a library prints must not mix with the reports.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(report: Report) -> None:
        reports.write(encode(report) + b"\n")

    try:
        from freehold.tuning.trainer import Trainer

        say(Trainer(job, say).run())
    except KeyboardInterrupt:
        return 130
    except FreeholdError as error:
        say(TrainError(type(error).__name__, error.message, error.remedy))
        return 1
    except MemoryError:
        failure = NotEnoughMemory("memory ran out while tuning", "Lower batch_tokens or max_length")
        say(TrainError(type(failure).__name__, failure.message, failure.remedy))
        return 1
    except OSError as error:
        if error.errno not in (28, 122):
            raise
        failure_ = DiskFull(f"the disk is full: {job.out}", "Free some space; the same command goes on")
        say(TrainError(type(failure_).__name__, failure_.message, failure_.remedy))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
