"""A run takes no name from its base, nor from a model that was not made under that name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.cli import main
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.recipes import tools
from freehold.store import Store
from tests.recipes.conftest import write_recipe
from tests.recipes.kit import Fakes

Say = Callable[..., str]


@pytest.fixture
def say(
    workshop: Path, home: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """Run a command in the workshop, and get what it says on stderr."""
    monkeypatch.setattr(tools, "real", fakes.tools)
    monkeypatch.chdir(workshop)

    def run(*arguments: str, code: int = 0) -> str:
        assert main.run([*arguments]) == code
        return capsys.readouterr().err

    return run


def bound() -> dict[str, str]:
    with Store.open(load({}).store) as store:
        return {str(entry.name): str(entry.digest) for entry in store.list()}


@pytest.mark.parametrize(("base", "out"), [("desk", "desk"), ("desk:latest", "desk"), ("desk", "desk:latest")])
def test_a_model_does_not_take_the_name_of_its_base(say: Say, fakes: Fakes, base: str, out: str) -> None:
    say("pull", "./base", "--as", "desk")
    before = bound()
    assert "desk is the base's own name" in say("tune", base, "desk.csv", "--out", out, code=2)
    assert (fakes.calls, bound()) == ([], before)


def test_nor_does_a_recipe_s(say: Say, workshop: Path, fakes: Fakes) -> None:
    recipe = write_recipe(workshop)
    recipe.write_text(recipe.read_text().replace('base = "base"', 'base = "desk:latest"'))
    say("pull", "./base", "--as", "desk")
    for more in ([], ["--dry-run"]):
        assert "desk is the base's own name" in say("make", "recipe.toml", *more, code=2)
    assert fakes.calls == []


@pytest.mark.parametrize("command", [("tune", "./base", "desk.csv", "--out", "desk"), ("make", "recipe.toml")])
def test_a_model_that_was_pulled_keeps_its_name(say: Say, fakes: Fakes, command: tuple[str, ...]) -> None:
    say("pull", "./base", "--as", "desk")
    before = bound()
    said = say(*command, code=2)
    assert "desk is a model that was not made by a recipe" in said
    assert "freehold rm desk" in said
    assert (fakes.calls, bound()) == ([], before)
    say("rm", "desk")
    say(*command)
    assert bound()["desk"] != before["desk"]


@pytest.mark.parametrize(
    ("taken", "command"),
    [
        ("desk:weights", ("make", "recipe.toml")),
        ("desk:adapter", ("tune", "./base", "desk.csv", "--out", "desk", "--method", "dora")),
    ],
)
def test_names_beside_the_model_s_own_are_not_taken_either(say: Say, taken: str, command: tuple[str, ...]) -> None:
    say("pull", "./base", "--as", taken)
    assert f"{taken} is a model that was not made by a recipe" in say(*command, code=2)


def test_a_second_name_of_a_tuned_model_is_kept(say: Say) -> None:
    say("tune", "./base", "desk.csv", "--out", "desk")
    say("cp", "desk", "good")
    said = say("tune", "./base", "desk.csv", "--out", "good", "--seed", "5", code=2)
    assert "good is a model that was made as desk, and would lose this name" in said


def test_the_starter_is_not_hidden(say: Say) -> None:
    assert "starter is the model that comes with" in say("tune", "./base", "desk.csv", "--out", "starter", code=2)


def test_what_was_tuned_is_tuned_again_under_its_name(say: Say) -> None:
    for seed in ("5", "6"):
        say("tune", "./base", "desk.csv", "--out", "org/desk:v1", "--seed", seed)
    say("tune", "./base", "desk.csv", "--out", "plain")
    say("make", "recipe.toml")
    say("tune", "./base", "desk.csv", "--out", "desk")
    assert {"org/desk:v1", "plain", "desk"} <= set(bound())


def test_a_model_whose_manifest_is_lost_may_be_made_again(say: Say) -> None:
    say("tune", "./base", "desk.csv", "--out", "desk")
    with Store.open(load({}).store) as store:
        store.path(store.resolve(Name.parse("desk"))).unlink()
    say("tune", "./base", "desk.csv", "--out", "desk")
