"""A run that ends with what it has learned so far: what its name gets, what is remembered, what cannot be asked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.cli import main
from freehold.core.errors import Conflict, Interrupted
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.recipes import cutting, records, tools
from freehold.recipes.steps.tune import OUT
from freehold.store import Store
from freehold.store.check import prune
from freehold.tuning.job import TrainJob
from tests.recipes.conftest import Run, write_recipe
from tests.recipes.kit import Fakes

TUNE = ["tune", "base", "desk.csv", "--out", "lora"]


@pytest.fixture
def command(workshop: Path, home: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a command whose trainer and engine are the fakes."""
    monkeypatch.setattr(tools, "real", fakes.tools)
    monkeypatch.chdir(workshop)
    return workshop


def asks(settings: Settings) -> Callable[[TrainJob], None]:
    """Somebody who asks while it trains."""

    def ask(job: TrainJob) -> None:
        cutting.ask(settings, records.records(settings)[0])

    return ask


def stops(job: TrainJob) -> None:
    """Ctrl-C, with a checkpoint written."""
    (job.out / "checkpoint").mkdir(exist_ok=True)
    (job.out / "checkpoint" / "state.json").touch()
    raise KeyboardInterrupt


def test_a_model_is_made_of_what_was_learned_and_the_same_recipe_goes_on(
    run: Run, settings: Settings, fakes: Fakes
) -> None:
    fakes.during_training = asks(settings)
    cut = run()
    assert cut.passed
    [record] = records.records(settings)
    assert (record.now, record.figures["cut"], record.figures["steps"]) == ("done", "asked", 1)
    assert record.figures["planned"] == 2
    fakes.during_training = lambda job: None
    whole = run()
    assert [call for call in fakes.calls if call == "train"] == ["train"] * 2
    assert whole.names != cut.names
    assert "cut" not in records.records(settings)[0].figures
    run()
    assert fakes.calls.count("train") == 2


def test_a_run_that_is_stopped_once_it_was_cut_stays_cut(
    run: Run, settings: Settings, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for is the run's until it ends; and nothing takes what it has made meanwhile."""
    fakes.during_training = asks(settings)
    tools = fakes.tools()

    def interrupted(*_: object) -> None:
        with Store.open(settings.store) as store:
            prune(store)
        raise KeyboardInterrupt

    object.__setattr__(tools, "quantize", interrupted)
    with monkeypatch.context() as patch:
        patch.setattr(fakes, "tools", lambda: tools)
        with pytest.raises(Interrupted):
            run()
    fakes.during_training = lambda job: None
    run()
    [record] = records.records(settings)
    assert (record.now, record.resumed, record.figures["cut"]) == ("done", 1, "asked")


def test_a_paused_run_is_ended_with_its_last_checkpoint(
    command: Path, settings: Settings, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.during_training = stops
    assert main.run(TUNE) == 130
    assert "keep what it has learned so far: freehold runs stop lora-1 --keep" in capsys.readouterr().err
    fakes.during_training = lambda job: None
    assert main.run(["runs", "stop", "lora", "--keep"]) == 0
    assert "lora is tuned" in capsys.readouterr().out
    assert main.run(["runs", "show", "lora"]) == 0
    assert "at step 1 of 2, as asked" in capsys.readouterr().out
    with Store.open(settings.store) as store:
        assert store.get(Name.parse("lora")).part("adapter")
    assert main.run(["runs", "stop", "lora", "--keep"]) == 2
    assert "lora-1 is done" in capsys.readouterr().err


def test_nothing_is_kept_of_a_run_that_has_learned_nothing(
    command: Path, settings: Settings, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(job: TrainJob) -> None:
        raise KeyboardInterrupt

    fakes.during_training = stop
    assert main.run(TUNE) == 130
    assert "--keep" not in capsys.readouterr().err
    assert main.run(["runs", "stop", "lora", "--keep"]) == 2
    assert "lora-1 has learned nothing that could be kept" in capsys.readouterr().err


def test_of_several_settings_none_is_cut(command: Path, settings: Settings, fakes: Fakes) -> None:
    fakes.during_training = stops
    fakes.held_out_loss = lambda job: 1.0
    assert main.run([*TUNE, "--rank", "4", "--rank", "8"]) == 130
    [record] = records.records(settings)
    assert record.place is not None
    assert (record.place / OUT / "checkpoint").exists()
    with pytest.raises(Conflict, match="tries several settings"):
        cutting.ask(settings, record)


def test_what_comes_after_tuning_is_not_cut(
    run: Run, settings: Settings, fakes: Fakes, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(workshop, tune='method = "lora"')
    tools = fakes.tools()
    object.__setattr__(tools, "merge", stops_anywhere)
    monkeypatch.setattr(fakes, "tools", lambda: tools)
    with pytest.raises(Interrupted):
        run()
    [record] = records.records(settings)
    with pytest.raises(Conflict, match="it is in the step 'merge'"):
        cutting.ask(settings, record)


def stops_anywhere(*_: object) -> None:
    raise KeyboardInterrupt
