"""What is wrong with base or data is said by their names, not by where the run keeps them."""

from pathlib import Path

import pytest

from freehold.core.errors import BadModelFile
from freehold.core.settings import Settings
from freehold.tuning.job import TrainJob
from tests.recipes.conftest import Run
from tests.recipes.kit import Fakes


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ("{base} lacks the tensor x", "base lacks the tensor x"),
        ("{base}/config.json is wrong", "base/config.json is wrong"),
        ("the rows have token 9, and {name} knows only 5", "the rows have token 9, and base knows only 5"),
        ("no row of {train} has an answer within max_length", "no row of desk.csv has an answer within max_length"),
        ("{path} line 3 is wrong", "desk.csv line 3 is wrong"),
        ("the base-models are many", "the base-models are many"),
    ],
)
def test_errors_of_the_trainer_name_what_the_user_named(
    run: Run, workshop: Path, settings: Settings, fakes: Fakes, says: str, said: str
) -> None:
    def fail(job: TrainJob) -> None:
        assert job.base is not None
        raise BadModelFile(says.format(base=job.base, name=job.base.name, train=job.train.name, path=job.train))

    fakes.during_training = fail
    with pytest.raises(BadModelFile) as caught:
        run()
    assert caught.value.message == said
