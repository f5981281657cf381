"""The judge of a recipe: found by its name, told to the trainer as a file, part of the step's key."""

from pathlib import Path
from typing import Any

import pytest

from freehold.core.errors import BadRecipe, FreeholdError
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats import gguf
from freehold.recipes.tuning import recipe_of, tune
from freehold.store import Store
from freehold.store.importing import import_folder, import_gguf
from freehold.tuning.job import TrainJob
from tests.recipes.kit import Fakes, write_adapter, write_base
from tests.tiny import write_gguf


def asked(workshop: Path, settings: Settings, fakes: Fakes, **keys: Any) -> TrainJob:
    tuned = {"objective": "grpo", "rewards": ["judge"], "judge": "owl", "rubric": "It is polite."}
    values = {
        "model": {"name": "desk-lora", "base": "base"},
        "data": {"path": "desk.csv", "held_out": 0.2, "kind": "prompt", "columns": {"user": "question"}},
        "tune": {**tuned, **keys},
    }
    tune(recipe_of(values, workshop), settings, on_event=lambda event: None, tools=fakes.tools())
    return fakes.jobs[-1]


def test_a_gguf_file_is_asked_where_it_lies(workshop: Path, settings: Settings, fakes: Fakes, tmp_path: Path):
    with Store.open(settings.store) as store:
        judge = import_gguf(store, write_gguf(tmp_path / "owl.gguf"), Name.parse("owl"))
        part = judge.part("gguf")
        assert part is not None
        path = store.path(part.digest)
    found = asked(workshop, settings, fakes).judge
    assert found is not None
    assert (found.name, found.path, found.rubric) == ("owl", path, "It is polite.")


def test_weights_are_converted_for_it(workshop: Path, settings: Settings, fakes: Fakes, tmp_path: Path):
    with Store.open(settings.store) as store:
        import_folder(store, write_base(tmp_path / "owl", seed=3), Name.parse("owl"))
    seen: list[str] = []

    def look(job: TrainJob) -> None:
        assert job.judge is not None
        seen.append(gguf.read_header(job.judge.path).architecture)

    fakes.during_training = look
    asked(workshop, settings, fakes)
    assert seen == ["llama"]


def test_another_judge_is_another_step(workshop: Path, settings: Settings, fakes: Fakes, tmp_path: Path):
    with Store.open(settings.store) as store:
        for seed, name in enumerate(("owl", "jay")):
            import_folder(store, write_base(tmp_path / name, seed=seed), Name.parse(name))
    for keys, runs in (({}, 1), ({}, 1), ({"judge": "jay"}, 2), ({"rubric": "It is short."}, 3)):
        asked(workshop, settings, fakes, **keys)
        assert fakes.calls.count("train") == runs


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"judge": ""}, "rewards has judge"),
        ({"rubric": " "}, "rewards has judge"),
        ({"rewards": ["json"]}, "judge and .tune. rubric are for rewards that have judge"),
    ],
)
def test_one_without_the_other_is_refused(
    workshop: Path, settings: Settings, fakes: Fakes, keys: dict[str, Any], said: str
):
    with pytest.raises(BadRecipe, match=said):
        asked(workshop, settings, fakes, **keys)


def test_what_cannot_grade_is_named(workshop: Path, settings: Settings, fakes: Fakes, tmp_path: Path):
    with pytest.raises(FreeholdError, match="owl"):
        asked(workshop, settings, fakes)
    with Store.open(settings.store) as store:
        import_folder(store, write_adapter(tmp_path / "owl", 1), Name.parse("owl"))
    with pytest.raises(FreeholdError, match="the judge owl is no model that runs alone"):
        asked(workshop, settings, fakes)
    assert not fakes.jobs
