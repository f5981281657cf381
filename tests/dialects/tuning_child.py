"""Run by tests in place of `freehold.recipes.child`: the same with a trainer that learns by heart.

It trains for as long as the file is there that FREEHOLD_TEST_HOLD names.
"""

import os
import sys
import time
from pathlib import Path

from freehold.recipes import child
from freehold.tuning.job import TrainJob
from tests.recipes.kit import Fakes

COMMAND = (sys.executable, "-m", "tests.dialects.tuning_child")


def held(job: TrainJob) -> None:
    """A checkpoint is written at once."""
    (job.out / "checkpoint").touch()
    while Path(os.environ["FREEHOLD_TEST_HOLD"]).exists():
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(child.main(Fakes(during_training=held).tools()))
