"""What a recipe remembers of its runs, and the digest of the code that a step's result depends on."""

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.core.settings import Settings
from freehold.recipes.history import folder_of, journal, read_history, write_history
from freehold.recipes.plan import Ingredients
from freehold.recipes.schema import RecipeFile, parse
from freehold.recipes.task import Step
from freehold.recipes.versions import version_of


def recipe(path: Path, name: str = "desk") -> RecipeFile:
    values: dict[str, Any] = {"model": {"name": name}, "data": {"path": "x.csv"}}
    return RecipeFile(parse(values, path), path, b"")


def ingredients() -> Ingredients:
    return Ingredients(version="sha256:0", parameters={"seed": 1}, inputs={"data": "sha256:1"})


def test_each_recipe_file_and_name_has_a_folder_of_its_own(settings: Settings, tmp_path: Path) -> None:
    recipes = [recipe(tmp_path / "a.toml"), recipe(tmp_path / "b.toml"), recipe(tmp_path / "a.toml", "org/desk:v1")]
    folders = [folder_of(each, settings) for each in recipes]
    assert len(set(folders)) == 3
    assert all(each.parent == settings.runs for each in folders)
    assert folders[2].name.startswith("org-desk-v1-")
    assert folder_of(recipe(tmp_path / "a.toml"), settings) == folders[0]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"tune": 1}', b"\xff", b'{"a":' * 9999])
def test_a_memory_that_cannot_be_read_is_none(settings: Settings, tmp_path: Path, content: bytes | None) -> None:
    file = recipe(tmp_path / "a.toml")
    folder = folder_of(file, settings)
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "last.json").write_bytes(content)
    assert read_history(file, settings) == {}


def test_what_was_made_is_remembered(settings: Settings, tmp_path: Path) -> None:
    file = recipe(tmp_path / "a.toml")
    folder = folder_of(file, settings)
    folder.mkdir(parents=True)
    write_history(folder, {"tune": ingredients()})
    assert read_history(file, settings) == {"tune": ingredients()}
    write_history(folder, {})
    assert read_history(file, settings) == {}
    assert [path.name for path in folder.iterdir()] == ["last.json"]


def test_a_journal_goes_on_line_by_line(tmp_path: Path) -> None:
    journal(tmp_path, event="begins", task="tune\nof two lines")
    journal(tmp_path, event="ends", seconds=1.5)
    first, second = map(json.loads, (tmp_path / "journal.jsonl").read_text("utf-8").splitlines())
    assert (first["event"], first["task"], second["seconds"]) == ("begins", "tune\nof two lines", 1.5)
    assert first["time"] <= second["time"]
    assert first["time"].endswith("Z")
    assert len(first["time"]) == len("2026-01-01T00:00:00Z")


def step(name: str = "gate", **more: Any) -> Step:
    return Step(name, lambda file, store: (), lambda work: None, **more)  # type: ignore[arg-type, return-value]


def test_a_version_is_of_the_steps_own_code_its_rooms_and_its_packages() -> None:
    whole = version_of(step(rooms=("proofs",), packages=("msgspec",)))
    assert whole == version_of(step(rooms=("proofs",), packages=("msgspec",)))
    others = [
        step("release", rooms=("proofs",), packages=("msgspec",)),
        step(rooms=("core",), packages=("msgspec",)),
        step(rooms=(), packages=("msgspec",)),
        step(rooms=("proofs",), packages=("numpy",)),
        step(rooms=("proofs",), packages=()),
        step(rooms=("proofs",), packages=("msgspec", "no-such-package")),
    ]
    assert len({whole, *(version_of(each) for each in others)}) == 7


def test_the_key_of_a_task_is_of_all_that_it_is_made_of() -> None:
    made = Ingredients("v", {"a": 1, "b": [2]}, {"data": "x", "base": "y"})
    same = Ingredients("v", {"b": [2], "a": 1}, {"base": "y", "data": "x"})
    assert made.key("tune") == same.key("tune"), "in whatever order it is said"
    others = [
        Ingredients("w", made.parameters, made.inputs).key("tune"),
        Ingredients("v", {**made.parameters, "a": 2}, made.inputs).key("tune"),
        Ingredients("v", made.parameters, {**made.inputs, "data": "z"}).key("tune"),
        Ingredients("v", made.parameters, {"data": "x"}).key("tune"),
        made.key("merge"),
    ]
    assert len({made.key("tune"), *others}) == 6
