"""What a recipe's base is: a name before a folder that is called the same, a path when it is written as one."""

import json
from pathlib import Path

import pytest

from freehold.core.errors import FreeholdError, Unsupported
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.recipes.schema import RecipeFile, read
from freehold.recipes.sources import base_of
from freehold.store import Store
from freehold.store.importing import import_folder
from tests.recipes.kit import write_base


def recipe(folder: Path, base: str) -> RecipeFile:
    path = folder / "recipe.toml"
    path.write_text(f'[model]\nname = "desk"\nbase = "{base}"\n[data]\npath = "desk.csv"\n')
    return read(path)


def test_a_folder_called_starter_is_not_the_starter(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "starter").mkdir()
    with Store.open(settings.store) as store:
        assert base_of(recipe(tmp_path, "starter"), store).manifest.details.architecture == "llama"
        with pytest.raises(FreeholdError, match=r"config\.json"):
            base_of(recipe(tmp_path, "./starter"), store)


def test_a_name_of_the_catalog_goes_before_a_folder(tmp_path: Path, settings: Settings) -> None:
    named = write_base(tmp_path / "named", seed=1)
    write_base(tmp_path / "mine", seed=2)
    with Store.open(settings.store) as store:
        by_folder = base_of(recipe(tmp_path, "mine"), store).manifest
        import_folder(store, named, Name.parse("mine"))
        by_name = base_of(recipe(tmp_path, "mine"), store).manifest
        assert by_name == store.get(Name.parse("mine"))
        assert by_name.parts != by_folder.parts
        assert base_of(recipe(tmp_path, "./mine"), store).manifest.parts == by_folder.parts


def test_a_folder_whose_name_cannot_be_a_models(tmp_path: Path, settings: Settings) -> None:
    write_base(tmp_path / "my base")
    with Store.open(settings.store) as store:
        assert {path.parent for path in base_of(recipe(tmp_path, "my base"), store).paths} == {tmp_path / "my base"}


def test_a_classifier_is_no_base_and_is_called_one(tmp_path: Path, settings: Settings) -> None:
    folder = write_base(tmp_path / "labels")
    told = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**told, "architectures": ["LlamaForSequenceClassification"]}))
    with Store.open(settings.store) as store:
        import_folder(store, folder, Name.parse("kept"))
        for base in ("kept", "./labels"):
            with pytest.raises(Unsupported) as caught:
                base_of(recipe(tmp_path, base), store)
            assert caught.value.message.startswith(f"base {base} is a classifier (LlamaForSequenceClassification)")
            assert caught.value.remedy == "Name the model that it was made of"
