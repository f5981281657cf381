"""A recipe for an embedding model: its pairs, what is measured of it, what the gate wants, what gets the name."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadData, BadInput, BadRecipe
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats.gguf import read_header
from freehold.recipes.outcome import Outcome
from freehold.recipes.runner import make_of
from freehold.recipes.schema import RecipeFile
from freehold.recipes.tuning import recipe_of, tune
from freehold.store import Store
from tests.recipes.kit import FORMS, TOPICS, Fakes
from tests.tiny import write_gguf

PASSAGES = [(form.format(topic), f"Passage on {topic}: see the board.") for topic in TOPICS for form in FORMS]


def write(workshop: Path, head: str, rows: list[tuple[str, ...]]) -> None:
    lines = [head, *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    (workshop / "pairs.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def pairs(workshop: Path) -> Path:
    write(workshop, "question,passage", list(PASSAGES))
    return workshop


def recipe(workshop: Path, base: str = "base", gate: dict[str, Any] | None = None, **keys: Any) -> RecipeFile:
    return recipe_of(
        {
            "model": {"name": "finder", "base": base},
            "data": {"path": "pairs.csv", "held_out": 0.2},
            "tune": {"objective": "embed", **keys},
            "quantize": {} if base.endswith(".gguf") else {"types": ["Q8_0"]},
            "gate": gate or {},
        },
        workshop,
    )


def made(file: RecipeFile, settings: Settings, fakes: Fakes) -> Outcome:
    return make_of(file, settings, on_event=lambda event: None, tools=fakes.tools())


def test_it_is_made_measured_and_released(pairs: Path, settings: Settings, fakes: Fakes) -> None:
    outcome = made(recipe(pairs, gate={"min_mrr": 0.9, "min_recall_at_1": 0.9}), settings, fakes)
    assert [each.model for each in outcome.measured] == ["base", "tuned", "Q8_0"]
    base, tuned, quantised = (each.vectors for each in outcome.measured)
    assert tuned == quantised == {"recall_at_1": 1, "recall_at_10": 1, "mrr": 1, "ndcg_at_10": 1}
    assert base["mrr"] < 0.7
    assert outcome.measured[0].token_f1 is None
    assert [(each.name, each.about, each.passed) for each in outcome.conditions] == [
        ("recall@1", "Q8_0", True), ("MRR", "Q8_0", True), ("MRR gained over the base", "tuned", True),
        ("MRR lost in quantising", "Q8_0", True),
    ]  # fmt: skip
    with Store.open(settings.store) as store:
        released = store.get(Name.parse("finder"))
        part = released.part("gguf")
        assert part is not None
        assert read_header(store.path(part.digest)).metadata["llama.pooling_type"] == 1
        report = msgspec.json.decode((outcome.folder / "answers-tuned.json").read_bytes())
        assert report["kind"] == "retrieval"
        assert {each["place"] for each in report["answers"]} == {1}
        assert all(each["answer"] == each["reference"] for each in report["answers"])


@pytest.mark.parametrize("gate", [{"min_recall_at_1": 0.9}, {"min_mrr": 0.9}, {"max_quantized_drop": 0.1}])
def test_the_gate_keeps_what_does_not_find(pairs: Path, settings: Settings, gate: dict[str, Any]) -> None:
    fakes = Fakes(skill={"base": 0.0, "tuned": 1.0, "Q8_0": 0.3})
    outcome = made(recipe(pairs, gate=gate), settings, fakes)
    assert not outcome.passed
    assert outcome.names == {}


def test_scores_are_compared_in_their_order(workshop: Path, settings: Settings, fakes: Fakes) -> None:
    rows = [(*pair, f"{number % 7 / 7:.3f}") for number, pair in enumerate(PASSAGES)]
    write(workshop, "sentence1,sentence2,score", rows)
    outcome = made(recipe(workshop, gate={"min_gain": -1.0}), settings, fakes)
    assert all(set(each.vectors) == {"spearman"} for each in outcome.measured)
    assert outcome.measured[1].vectors["spearman"] == 0, "all its cosines are 1"
    assert [each.name for each in outcome.conditions][:1] == ["Spearman gained over the base"]
    with pytest.raises(BadRecipe, match="min_mrr is set, and it was not measured"):
        made(recipe(workshop, gate={"min_mrr": 0.5, "min_gain": -1.0}), settings, fakes)


def test_tuned_alone_it_is_kept_merged_with_its_pooling(pairs: Path, settings: Settings, fakes: Fakes) -> None:
    tuned = tune(recipe(pairs, pooling="last"), settings, on_event=lambda event: None, tools=fakes.tools())
    assert fakes.calls == ["train", "merge"]
    assert fakes.jobs[0].pooling == "last"
    assert tuned.measured["recall_at_1"] == 0.5
    with Store.open(settings.store) as store:
        config = store.get(Name.parse("finder")).part("config")
        assert config is not None
        assert msgspec.json.decode(store.path(config.digest).read_bytes())["pooling_type"] == "last"
        assert store.get(Name.parse("finder:adapter")).part("adapter")


def test_beside_a_gguf_file_it_is_made_and_not_tuned_alone(pairs: Path, settings: Settings, fakes: Fakes) -> None:
    write_gguf(pairs / "base.gguf", hidden=64, layers=1)
    file = recipe(pairs, "base.gguf")
    with pytest.raises(BadInput, match="GGUF file"):
        tune(file, settings, on_event=lambda event: None, tools=fakes.tools())
    outcome = made(file, settings, fakes)
    assert outcome.passed
    with Store.open(settings.store) as store:
        assert store.get(Name.parse("finder")).part("adapter")


@pytest.mark.parametrize(
    ("head", "rows", "said"),
    [
        ("title,text", PASSAGES, "no pair rows; columns: title, text"),
        ("question,passage", PASSAGES[:1], "has 1 usable row"),
        ("question,passage", [(question, "") for question, _ in PASSAGES], "has 0 usable rows"),
        ("anchor,positive", [("the same", "the same"), *PASSAGES], "line 2 has the same text on both sides"),
        ("anchor,positive,negative", [("a", "b", "b")] * 12, "belongs to it and does not"),
        ("sentence1,sentence2,score", [(*pair, "high") for pair in PASSAGES], "line 2 has the score 'high'"),
        ("sentence1,sentence2,score", [(*pair, "nan") for pair in PASSAGES], "line 2 has the score 'nan'"),
    ],
)
def test_bad_pairs_are_named(
    workshop: Path, settings: Settings, fakes: Fakes, head: str, rows: list[tuple[str, ...]], said: str
) -> None:
    write(workshop, head, rows)
    with pytest.raises(BadData) as caught:
        tune(recipe(workshop), settings, on_event=lambda event: None, tools=fakes.tools())
    assert said in caught.value.message
    assert "\n" not in caught.value.line()
    assert fakes.calls == []


@pytest.mark.parametrize(
    ("keys", "gate", "said"),
    [
        ({"method": "scratch"}, {}, "not for method scratch"),
        ({}, {"min_token_f1": 0.5}, "min_token_f1 is for models that answer"),
        ({"objective": "sft"}, {"min_mrr": 0.5}, "min_mrr is for objective embed"),
        ({"objective": "sft", "scale": 10.0}, {}, "pooling and .tune. scale are for objective embed"),
        ({"pooling": "cls"}, {}, "pooling"),
        ({"scale": 0.0}, {}, "scale"),
    ],
)
def test_what_cannot_be_is_refused(workshop: Path, keys: dict[str, Any], gate: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRecipe, match=said):
        recipe(workshop, gate=gate, **keys)
