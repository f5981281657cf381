"""The tune step alone: what it is asked, what it keeps, what it says."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.digest import Digest
from freehold.core.errors import BadRecipe, MissingExtra
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.recipes.events import RunEvent, StepBegins
from freehold.recipes.runner import make
from freehold.recipes.schema import RecipeFile
from freehold.recipes.tools import real
from freehold.recipes.tuning import Tuned, plan, recipe_of, tune
from freehold.store import Store
from freehold.store.check import fsck, prune
from tests.recipes.kit import Fakes


def recipe(workshop: Path, **keys: Any) -> RecipeFile:
    return recipe_of(
        {
            "model": {"name": "desk-lora", "base": "base"},
            "data": {"path": "desk.csv", "held_out": 0.2},
            "tune": {"method": "lora", **keys},
        },
        workshop,
    )


def run(workshop: Path, settings: Settings, fakes: Fakes, events: list[RunEvent], **keys: Any) -> Tuned:
    return tune(recipe(workshop, **keys), settings, on_event=events.append, tools=fakes.tools())


def test_an_adapter_gets_the_name_with_where_it_comes_from(workshop: Path, settings: Settings, fakes: Fakes):
    events: list[RunEvent] = []
    tuned = run(workshop, settings, fakes, events, steps=2)
    assert [event.task for event in events if isinstance(event, StepBegins)] == ["data", "base", "tune"]
    assert fakes.calls == ["train"]
    assert (tuned.name, tuned.losses, tuned.tokens) == ("desk-lora", (2.0, 1.0), 100)
    assert tuned.tokens_per_second == pytest.approx(2000)
    assert tuned.settings["steps"] == 2
    assert tuned.settings["rank"] == 16
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("desk-lora"))
        assert str(manifest.digest) == tuned.digest
        assert manifest.part("adapter")
        assert manifest.lineage.base is not None
        assert store.manifest(manifest.lineage.base).part("weights")
        assert manifest.lineage.recipe == Digest.of_bytes(recipe(workshop, steps=2).source)
        records = [msgspec.json.decode(store.path(digest).read_bytes()) for digest in manifest.evidence]
        assert [record["kind"] for record in records] == ["data", "training"]
        prune(store)
        assert fsck(store, deep=True) == []


def test_a_whole_model_gets_the_name(workshop: Path, settings: Settings, fakes: Fakes):
    run(workshop, settings, fakes, [], method="full")
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("desk-lora"))
        assert manifest.part("weights")
        assert manifest.part("tokenizer")


def test_an_adapter_of_dora_is_kept_merged_and_by_itself(workshop: Path, settings: Settings, fakes: Fakes):
    tuned = run(workshop, settings, fakes, [], method="dora")
    assert fakes.calls == ["train", "merge"]
    assert tuned.method == "dora"
    with Store.open(settings.store) as store:
        merged, alone = (store.get(Name.parse(name)) for name in ("desk-lora", "desk-lora:adapter"))
        assert str(merged.digest) == tuned.digest
        assert merged.part("weights")
        assert alone.part("adapter")
        assert merged.lineage == alone.lineage
        assert merged.evidence == alone.evidence
    run(workshop, settings, fakes, [], method="dora")
    assert fakes.calls == ["train", "merge"]


def test_a_classifier_is_tuned_alone(workshop: Path, settings: Settings, fakes: Fakes):
    labels = "\n".join(f"text {form} about {topic},{topic}" for topic in ("a", "b") for form in range(20))
    (workshop / "labels.csv").write_text(f"text,label\n{labels}\n")
    values = {
        "model": {"name": "labels", "base": "base"},
        "data": {"path": "labels.csv", "held_out": 0.2},
        "tune": {"objective": "classify"},
    }
    file = recipe_of(values, workshop)
    tuned = tune(file, settings, on_event=lambda event: None, tools=fakes.tools())
    assert tuned.measured == {"accuracy": 0.75}
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("labels"))
        assert manifest.part("weights")
        records = [msgspec.json.decode(store.path(digest).read_bytes()) for digest in manifest.evidence]
        assert records[-1]["measured"] == {"accuracy": 0.75}
    (workshop / "labels.toml").write_bytes(file.source)
    with pytest.raises(BadRecipe, match="neither quantised nor gated"):
        make(workshop / "labels.toml", settings, tools=fakes.tools())


def test_it_is_done_once_however_it_gets_there(workshop: Path, settings: Settings, fakes: Fakes):
    first = run(workshop, settings, fakes, [], steps=2)
    assert run(workshop, settings, fakes, [], steps=2) == first
    run(workshop, settings, fakes, [], steps=2, checkpointing="on")
    run(workshop, settings, fakes, [], steps=2, offload="on")
    assert fakes.calls == ["train"]
    run(workshop, settings, fakes, [], steps=3)
    assert fakes.calls == ["train", "train"]


def test_time_is_handed_on_in_seconds(workshop: Path, settings: Settings, fakes: Fakes):
    run(workshop, settings, fakes, [], time="1m30s", batch=4, patience=2, evaluations=12)
    [job] = fakes.jobs
    assert (job.seconds, job.batch, job.patience, job.evaluations) == (90, 4, 2, 12)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"time": "soon"}, "time 'soon' is no span of time"),
        ({"time": "-5m"}, "time is -5m"),
        ({"time": "5m", "steps": 3}, "steps and .tune. time"),
        ({"checkpointing": "maybe"}, "checkpointing"),
        ({"offload": "maybe"}, "offload"),
        ({"method": "lora2"}, "method"),
        ({"batch": -1}, "batch"),
        ({"backend": "trl"}, "backend"),
        ({"backend": "unsloth", "objective": "dpo"}, "backend unsloth is not for objective dpo"),
        ({"backend": "unsloth", "method": "full"}, "backend unsloth is not for method full"),
    ],
)
def test_what_cannot_be_is_refused(workshop: Path, keys: dict[str, Any], said: str):
    with pytest.raises(BadRecipe, match=said):
        recipe(workshop, **keys)


def test_what_computed_is_part_of_the_evidence(workshop: Path, settings: Settings, fakes: Fakes):
    own = run(workshop, settings, fakes, [], steps=2)
    tuned = run(workshop, settings, fakes, [], steps=2, backend="unsloth")
    assert [job.backend for job in fakes.jobs] == ["freehold", "unsloth"]
    assert (own.settings["library"], tuned.settings["library"]) == ("", "unsloth 1")
    with Store.open(settings.store) as store:
        evidence = store.get(Name.parse("desk-lora")).evidence
        records = [msgspec.json.decode(store.path(digest).read_bytes()) for digest in evidence]
        assert records[-1]["library"] == "unsloth 1"


def test_a_plan_asks_the_trainer_and_keeps_nothing(workshop: Path, settings: Settings, fakes: Fakes):
    found = plan(recipe(workshop), settings, seconds=3.0, on_event=lambda event: None, tools=fakes.tools())
    assert (found.steps, found.tokens) == (5, 500)
    assert fakes.calls == ["plan lora"]
    assert fakes.jobs[0].probe == 3.0
    with Store.open(settings.store) as store:
        assert store.list() == []


def test_without_unsloth_nothing_begins(workshop: Path, settings: Settings, fakes: Fakes):
    fakes.installed = False
    with pytest.raises(MissingExtra, match="torch"):
        run(workshop, settings, fakes, [], backend="unsloth")
    assert fakes.calls == []
    with pytest.raises(MissingExtra) as caught:
        real().require("unsloth")
    assert caught.value.line().endswith("Run: pip install unsloth")


def test_without_the_extra_it_is_named(workshop: Path, settings: Settings):
    with pytest.raises(MissingExtra, match="torch"):
        run(workshop, settings, Fakes(installed=False), [])
