"""What is kept of a run while it runs and afterwards, however it ended."""

import math
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from freehold.core.errors import Conflict, Interrupted, MissingExtra, NotFound, WorkerFailed
from freehold.core.settings import Settings
from freehold.recipes import records, trackers
from freehold.recipes.events import RunBegins, RunEvent
from freehold.recipes.records import LOG, Point, place_of
from freehold.tuning.job import Answered, TrainJob
from tests.recipes.conftest import Run, write_recipe
from tests.recipes.kit import Fakes
from tests.recipes.test_resume import _child


def test_a_finished_run(run: Run, settings: Settings) -> None:
    events: list[RunEvent] = []
    outcome = run(events=events)
    [record] = records.records(settings)
    place = place_of(settings, record.run)
    assert [event for event in events if isinstance(event, RunBegins)] == [RunBegins("desk-1", place)]
    assert (record.run, record.name, record.now, record.result) == ("desk-1", "desk", "done", outcome.names)
    assert record.settings["tune.epochs"] == 3
    assert record.figures["last_loss"] == 1.0
    assert record.scores["tuned"]["token_f1"] == 1.0
    assert set(record.samples[0]) == {"question", "answer", "reference"}
    [point] = records.points(place)
    assert (point.step, point.steps, point.loss, point.tokens_per_second) == (1, 2, 2.0, 100.0)
    said = (place / LOG).read_text()
    assert "tune: not done before" in said
    assert "step 1/2  loss 2.000" in said
    assert said.endswith("desk-1: done\n")
    assert records.seconds(settings, record) > 0


def test_a_run_with_nothing_to_do_leaves_no_record(run: Run, settings: Settings) -> None:
    run()
    run()
    assert [record.run for record in records.records(settings)] == ["desk-1"]


def test_another_recipe_is_another_run(run: Run, settings: Settings, workshop: Path) -> None:
    run()
    write_recipe(workshop, tune="epochs = 4")
    run()
    assert [record.run for record in records.records(settings)] == ["desk-2", "desk-1"]
    assert records.find(settings, "desk").run == "desk-2"
    assert records.find(settings, "desk-1").settings["tune.epochs"] == 3
    with pytest.raises(NotFound, match="no such run: other"):
        records.find(settings, "other")


def test_an_interrupted_run_is_paused_and_goes_on_as_itself(run: Run, settings: Settings, fakes: Fakes) -> None:
    def stop(job: TrainJob) -> None:
        raise KeyboardInterrupt

    fakes.during_training = stop
    with pytest.raises(Interrupted):
        run()
    [record] = records.records(settings)
    assert (record.now, record.task, record.error) == ("paused", "tune", "")
    fakes.during_training = lambda job: None
    run()
    [record] = records.records(settings)
    assert (record.now, record.resumed) == ("done", 1)
    assert len(list(records.points(place_of(settings, record.run)))) == 2


def test_a_failed_run_says_why(run: Run, settings: Settings, fakes: Fakes) -> None:
    def fail(job: TrainJob) -> None:
        raise WorkerFailed("the loss is not a number", "Lower learning_rate")

    fakes.during_training = fail
    with pytest.raises(WorkerFailed):
        run()
    [record] = records.records(settings)
    assert (record.now, record.error) == ("failed", "the loss is not a number. Lower learning_rate")
    with pytest.raises(Conflict, match="it is failed"):
        records.stop(settings, record)


def test_a_killed_run_is_paused(workshop: Path, settings: Settings) -> None:
    with _child("training", workshop, settings) as child:
        assert child.wait() == -signal.SIGKILL
    [record] = records.records(settings)
    assert (record.state, record.now, record.pid) == ("running", "paused", child.pid)
    assert records.seconds(settings, record) < 3600


def test_a_running_run_is_stopped_as_by_ctrl_c(workshop: Path, settings: Settings) -> None:
    with _child("hang", workshop, settings) as child:
        assert child.stdout is not None
        child.stdout.readline()
        [record] = records.records(settings)
        assert record.now == "running"
        assert records.stop(settings, record).now == "paused"
        child.wait()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_run_keeps_its_recipe_as_it_was(run: Run, settings: Settings, workshop: Path, mark: bytes) -> None:
    before = mark + (workshop / "recipe.toml").read_bytes()
    (workshop / "recipe.toml").write_bytes(before)
    run()
    write_recipe(workshop, tune="epochs = 4")
    file = records.recipe_of(settings, records.find(settings, "desk"))
    assert (file.source, file.path) == (before, workshop / "recipe.toml")
    assert file.recipe.tune.epochs == 3


def test_what_a_kill_cut_is_left_out(run: Run, settings: Settings) -> None:
    run()
    place = place_of(settings, "desk-1")
    with (place / records.POINTS).open("ab") as file:
        file.write(b'{"time":1.0,"step":2,"steps":2,"held_out_loss":0.5}\n{"time":1.0,"st')
    assert records.losses(place) == ({1: 2.0}, {2: 0.5})
    last = records.last_point(place)
    assert last is not None
    assert last.step == 1
    (place_of(settings, "desk-1") / "run.json").write_bytes(b"{")
    assert records.records(settings) == []


def test_what_was_done_again_takes_the_place_of_what_was_done(tmp_path: Path) -> None:
    """A run goes on from its last checkpoint, or, where its data has changed, from the start."""
    told = [(1, 4.0), (2, 3.0), (2, None), (3, 2.5), (4, 2.0), (3, 2.6), (4, 2.1), (1, 5.0), (2, 4.5)]
    points = [
        Point(time=0.0, step=step, steps=4, loss=loss, held_out_loss=None if loss else 9.0) for step, loss in told
    ]
    (tmp_path / records.POINTS).write_bytes(b"\n".join(map(msgspec.json.encode, points[:7])))
    assert records.losses(tmp_path) == ({1: 4.0, 2: 3.0, 3: 2.6, 4: 2.1}, {2: 9.0})
    (tmp_path / records.POINTS).write_bytes(b"\n".join(map(msgspec.json.encode, points)))
    assert records.losses(tmp_path) == ({1: 5.0, 2: 4.5}, {})


def test_older_points_have_no_samples(tmp_path: Path) -> None:
    (tmp_path / records.POINTS).write_bytes(b'{"time":1.0,"step":2,"steps":2,"held_out_loss":0.5}\n')
    [point] = records.points(tmp_path)
    assert point.samples == ()


def test_the_last_point_of_a_training_may_lie_far_back(tmp_path: Path) -> None:
    points = [Point(time=0.0, step=1, steps=1, task=task, loss=1.0) for task in ("tune a", *["tune b"] * 2000)]
    (tmp_path / records.POINTS).write_bytes(b"\n".join(map(msgspec.json.encode, points)))
    found = records.last_point(tmp_path, "tune a")
    assert found is not None
    assert found.task == "tune a"
    assert records.last_point(tmp_path, "tune c") is None


def test_where_figures_go_changes_nothing_that_is_made(run: Run, workshop: Path, fakes: Fakes) -> None:
    pytest.importorskip("tensorboardX")
    run()
    write_recipe(workshop, tune='epochs = 3\nlog = "tensorboard"')
    run()
    assert fakes.calls.count("train") == 1


def test_tensorboard_reads_what_was_said(run: Run, workshop: Path, settings: Settings, fakes: Fakes) -> None:
    fakes.says = (Answered("Where *is* it?", "Here."),)
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_recipe(workshop, tune='epochs = 3\nlog = "tensorboard"')
    run()
    board = accumulator.EventAccumulator(str(place_of(settings, "desk-1") / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 2.0)]
    assert [event.value for event in board.Scalars("train/tokens_per_second")] == [100.0]
    before, text = board.Tensors("eval/sample_1/text_summary")
    assert (before.step, text.step) == (0, 2)
    assert text.tensor_proto.string_val[0] == b"    Where *is* it?\n\n---\n\n    Here."
    [text] = board.Tensors("settings/text_summary")
    assert b"| tune.epochs | 3.0 |" in text.tensor_proto.string_val[0]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_without_its_package_is_named(run: Run, workshop: Path, fakes: Fakes, name: str) -> None:
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    write_recipe(workshop, tune=f'log = "{name}"')
    with pytest.raises(MissingExtra, match=f"needs {name}") as caught:
        run()
    assert caught.value.remedy == f"Run: pip install {name}"
    assert fakes.calls == []


def test_no_board_is_given_what_it_cannot_draw() -> None:
    point = Point(time=time.time(), step=1, steps=2, loss=math.nan, memory=5)
    assert trackers.values(point) == {"train/memory": 5.0}
