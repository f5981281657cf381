"""The comparison's process: `python -m freehold.tuning.compare_child JOB.json`. Reports are JSON lines on stdout."""

import sys
from pathlib import Path

from freehold.tuning.child import Say, reporting
from freehold.tuning.job import Compared, CompareJob, decode


def main() -> int:
    """Compare; the exit code says only whether it went well, the reports say why not."""
    job = decode(Path(sys.argv[1]).read_bytes(), CompareJob)

    def work(say: Say) -> Compared:
        from freehold.tuning.agreement import compare

        return compare(job, say)

    return reporting(job.out, work)


if __name__ == "__main__":
    sys.exit(main())
