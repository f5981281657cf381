"""The plan tells what will run and why, and changes nothing."""

from pathlib import Path

import pytest

from freehold.core.errors import BadData, BadModelFile, BadRecipe, UnknownModel, Unsupported
from freehold.core.settings import Settings
from freehold.recipes.plan import Entry, plan_of
from freehold.recipes.task import steps
from tests.recipes.conftest import Run, write_recipe
from tests.recipes.kit import Fakes, pairs, write_csv


def _plan(workshop: Path, settings: Settings) -> dict[str, Entry]:
    return {entry.task: entry for entry in plan_of(workshop / "recipe.toml", settings).entries}


def test_every_module_of_the_folder_is_a_step() -> None:
    assert set(steps()) == {
        "data", "base", "tune", "choose", "merge", "convert", "quantize", "evaluate", "compare", "gate", "release"
    }  # fmt: skip


def test_before_the_first_run(workshop: Path, settings: Settings) -> None:
    plan = _plan(workshop, settings)
    assert list(plan)[:2] == ["data", "base"]
    assert list(plan)[-2:] == ["gate", "release"]
    assert plan["data"].state == plan["base"].state == "run"
    assert plan["data"].why == "not done before"
    assert plan["tune"].state == "waits"
    assert plan["tune"].why == "after base, data"
    assert not settings.runs.exists()


def test_after_a_run(run: Run, workshop: Path, settings: Settings) -> None:
    run()
    plan = _plan(workshop, settings)
    assert {entry.state for entry in plan.values()} == {"done"}
    assert all(entry.key[7:19] in entry.why for entry in plan.values())


@pytest.mark.parametrize(
    ("tune", "why"),
    [
        ("epochs = 5", "because epochs changed from 3.0 to 5"),
        ("epochs = 3\nrank = 4", "because rank changed from 16 to 4"),
        ('method = "full"', "because method changed from 'lora' to 'full', rank changed from 16 to None"),
    ],
)
def test_changed_parameters_are_named(run: Run, workshop: Path, settings: Settings, tune: str, why: str) -> None:
    run()
    write_recipe(workshop, tune=tune)
    entry = _plan(workshop, settings)["tune"]
    assert entry.state == "run"
    assert entry.why.startswith(why)


def test_a_new_seed_changes_the_split_too(run: Run, workshop: Path, settings: Settings) -> None:
    run()
    write_recipe(workshop, tune="epochs = 3\nseed = 2")
    plan = _plan(workshop, settings)
    assert plan["data"].why == "because seed changed from 1 to 2"
    assert plan["tune"].state == "waits"


def test_changed_data_is_named(run: Run, workshop: Path, settings: Settings) -> None:
    run()
    write_csv(workshop / "desk.csv", pairs()[1:])
    plan = _plan(workshop, settings)
    assert plan["data"].why == "because source changed"
    assert plan["base"].state == "done"
    run(given=Fakes())
    write_csv(workshop / "desk.csv", pairs())
    assert _plan(workshop, settings)["data"].state == "done"


def test_keys_that_a_method_does_not_read_change_nothing(run: Run, workshop: Path, settings: Settings) -> None:
    run()
    write_recipe(workshop, tune="epochs = 3\nhidden = 256\nvocab = 999\ncheckpoint_seconds = 5")
    assert _plan(workshop, settings)["tune"].state == "done"


def test_where_the_data_lies_changes_nothing(run: Run, workshop: Path, settings: Settings) -> None:
    run()
    (workshop / "desk.csv").rename(workshop / "moved.csv")
    path = workshop / "recipe.toml"
    path.write_text(path.read_text().replace("desk.csv", "moved.csv"))
    plan = _plan(workshop, settings)
    assert plan["data"].state == "done"
    assert plan["release"].why == "because recipe changed"


def test_interrupted_task_is_said_to_be(run: Run, workshop: Path, settings: Settings, fakes: Fakes) -> None:
    def stop(job: object) -> None:
        raise KeyboardInterrupt

    fakes.during_training = stop
    from freehold.core.errors import Interrupted

    with pytest.raises(Interrupted, match="'tune'"):
        run()
    assert _plan(workshop, settings)["tune"].why == "was not finished"


@pytest.mark.parametrize("base", ["nobody", "org/none:tag"])
def test_unknown_base(workshop: Path, settings: Settings, base: str) -> None:
    path = workshop / "recipe.toml"
    path.write_text(path.read_text().replace('base = "base"', f'base = "{base}"'))
    with pytest.raises(UnknownModel) as caught:
        plan_of(path, settings)
    assert caught.value.exit_code == 2


def test_bases_that_cannot_be_tuned(run: Run, workshop: Path, settings: Settings) -> None:
    path = workshop / "recipe.toml"
    run()
    text = path.read_text()
    other = text.replace('name = "desk"', 'name = "other"').replace('base = "base"', 'base = "desk"')
    path.write_text(other.replace("[tune]", '[tune]\nmethod = "full"'))
    with pytest.raises(Unsupported, match="GGUF"):
        plan_of(path, settings)
    path.write_text(text.replace('base = "base"', 'base = "./desk.csv"'))
    with pytest.raises(BadModelFile, match="not a GGUF file"):
        plan_of(path, settings)
    (workshop / "base" / "model.safetensors").unlink()
    path.write_text(text)
    with pytest.raises(BadModelFile, match="no weights"):
        plan_of(path, settings)


def test_missing_data(workshop: Path, settings: Settings) -> None:
    (workshop / "desk.csv").unlink()
    with pytest.raises(BadData, match="no such file"):
        plan_of(workshop / "recipe.toml", settings)


def test_generator_that_is_none(workshop: Path, settings: Settings) -> None:
    path = workshop / "recipe.toml"
    path.write_text(path.read_text().replace('path = "desk.csv"', 'generator = "none.py"'))
    with pytest.raises(BadRecipe, match="no Python script"):
        plan_of(path, settings)
