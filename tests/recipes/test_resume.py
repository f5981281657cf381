"""Whatever stops a run, the next one goes on and ends with the same model."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freehold.core.errors import BadData, Conflict, Interrupted, WorkerFailed
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.recipes.history import folder_of
from freehold.recipes.runner import make
from freehold.recipes.schema import read
from freehold.store import Store
from freehold.store.check import fsck
from freehold.tuning.job import TrainJob
from tests.recipes.conftest import Run
from tests.recipes.kit import Fakes, write_csv

CHILD = """
import sys, os, signal, time
from pathlib import Path
from freehold.core.settings import Settings
from freehold.recipes.runner import make
from tests.recipes import kit
fakes = kit.Fakes()
what, recipe, home = sys.argv[1:]
seen = 0
def on_event(event):
    global seen
    seen += 1
    if what.isdigit() and seen == int(what):
        os.kill(os.getpid(), signal.SIGKILL)
if what == "training":
    fakes.during_training = kit.kill_self
if what == "hang":
    def hang(job):
        print("training", flush=True)
        time.sleep(60)
    fakes.during_training = hang
make(Path(recipe), Settings(home=Path(home), threads=1), on_event=on_event, tools=fakes.tools())
"""


def _child(what: str, workshop: Path, settings: Settings) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", CHILD, what, str(workshop / "recipe.toml"), str(settings.home)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def unbroken(workshop: Path, tmp_path: Path) -> object:
    """What an undisturbed run makes."""
    return make(workshop / "recipe.toml", Settings(home=tmp_path / "other", threads=1), tools=Fakes().tools()).names


def test_killed_while_tuning(run: Run, workshop: Path, settings: Settings, fakes: Fakes, unbroken: object) -> None:
    with _child("training", workshop, settings) as child:
        assert child.wait() == -signal.SIGKILL
    resumed: list[bool] = []
    fakes.during_training = lambda job: resumed.append((job.out / "checkpoint").exists())
    outcome = run()
    assert resumed == [True]
    assert outcome.names == unbroken
    assert outcome.training["resumed"] == 1


@pytest.mark.parametrize(
    "event", [9, 19, 28, *(pytest.param(event, marks=pytest.mark.slow) for event in (2, 5, 12, 14, 17, 24, 31, 33))]
)
def test_killed_anywhere(run: Run, workshop: Path, settings: Settings, unbroken: object, event: int) -> None:
    with _child(str(event), workshop, settings) as child:
        assert child.wait() in (-signal.SIGKILL, 0)
    with Store.open(settings.store) as store:
        assert fsck(store, deep=True) == []
    assert run().names == unbroken
    assert list((settings.runs / "scratch").iterdir()) == []


def test_two_runs_at_once(run: Run, workshop: Path, settings: Settings) -> None:
    with _child("hang", workshop, settings) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(Conflict, match=f"process {child.pid}"):
            run()
        child.kill()
    assert run().passed


def test_two_recipes_do_not_tune_the_same_at_once(workshop: Path, settings: Settings, fakes: Fakes) -> None:
    other = workshop / "other.toml"
    other.write_text((workshop / "recipe.toml").read_text().replace('"desk"', '"desk2"'))
    with _child("hang", workshop, settings) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(Conflict, match="tune is being made already"):
            make(other, settings, tools=fakes.tools())
        child.kill()
    assert make(other, settings, tools=fakes.tools()).passed


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), Interrupted("tuning was interrupted", "Run it again")])
def test_interrupt_can_be_resumed(run: Run, fakes: Fakes, raised: BaseException, unbroken: object) -> None:
    def stop(job: TrainJob) -> None:
        (job.out / "checkpoint").write_text("half way")
        raise raised

    fakes.during_training = stop
    with pytest.raises(Interrupted) as caught:
        run()
    assert caught.value.exit_code == 130
    resumed: list[bool] = []
    fakes.during_training = lambda job: resumed.append((job.out / "checkpoint").exists())
    assert run().names == unbroken
    assert resumed == [True]


def test_failed_step_is_tried_again(run: Run, fakes: Fakes) -> None:
    def fail(job: TrainJob) -> None:
        raise WorkerFailed("the loss is not a number")

    fakes.during_training = fail
    with pytest.raises(WorkerFailed):
        run()
    fakes.during_training = lambda job: None
    assert run().passed


def test_bad_data_leaves_no_run_behind(run: Run, workshop: Path, settings: Settings) -> None:
    write_csv(workshop / "desk.csv", [("One question?", "One answer.")])
    with pytest.raises(BadData, match="1 usable row"):
        run()
    assert not folder_of(read(workshop / "recipe.toml"), settings).exists()
    with Store.open(settings.store) as store:
        assert store.list() == []
        assert [digest for _, digest in store.blobs.files()] == []


def test_lost_blob_is_made_again(run: Run, settings: Settings, fakes: Fakes) -> None:
    first = run()
    with Store.open(settings.store) as store:
        part = store.get(Name.parse("desk")).part("gguf")
        assert part is not None
        path = store.blobs.path(part.digest)
        path.unlink()
    assert run().names == first.names
    assert path.exists()
    assert fakes.calls.count("train") == 1


def test_history_of_another_version_is_no_obstacle(run: Run, workshop: Path, settings: Settings) -> None:
    run()
    (folder_of(read(workshop / "recipe.toml"), settings) / "last.json").write_text("{")
    begin = time.monotonic()
    assert run().passed
    assert time.monotonic() - begin < 60
