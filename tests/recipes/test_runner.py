"""A recipe runs to a released model; what is done is not done again."""

from pathlib import Path

import msgspec
import pytest

from freehold.core.digest import Digest
from freehold.core.errors import MissingExtra, UnknownModel
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.recipes.events import Note, RunEvent, StepBegins, StepEnds, StepMoves
from freehold.recipes.history import folder_of
from freehold.recipes.runner import make
from freehold.recipes.schema import read
from freehold.store import Store
from freehold.store.check import fsck, prune
from tests.recipes.conftest import Run, write_recipe
from tests.recipes.kit import Fakes, pairs, write_base, write_csv


def _begun(events: list[RunEvent]) -> list[str]:
    return [event.task for event in events if isinstance(event, StepBegins)]


def test_the_chain(run: Run, fakes: Fakes, settings: Settings) -> None:
    events: list[RunEvent] = []
    outcome = run(events=events)
    assert _begun(events) == [
        "data", "base", "convert base", "tune", "evaluate base", "merge", "convert tuned", "evaluate tuned",
        "quantize Q8_0", "evaluate Q8_0", "compare tuned", "gate", "release",
    ]  # fmt: skip
    assert outcome.passed
    assert [line.model for line in outcome.measured] == ["base", "tuned", "Q8_0"]
    base, tuned, quantised = outcome.measured
    assert base.token_f1 == 0
    assert tuned.token_f1 == quantised.token_f1 == 1
    assert quantised.size < tuned.size
    assert tuned.tokens_per_second > 0
    assert list(outcome.names) == ["desk", "desk:weights"]
    assert fakes.calls.count("train") == 1


def test_manifest_carries_its_evidence(run: Run, settings: Settings, workshop: Path) -> None:
    outcome = run()
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("desk"))
        assert str(manifest.digest) == outcome.names["desk"]
        assert manifest.details.quantization == "Q8_0"
        assert manifest.lineage.recipe == Digest.of_file(workshop / "recipe.toml")
        assert manifest.lineage.base is not None
        assert store.manifest(manifest.lineage.base).part("weights")
        documents = [msgspec.json.decode(store.path(digest).read_bytes()) for digest in manifest.evidence]
        assert [document["kind"] for document in documents] == [
            "data",
            "training",
            *["evaluation"] * 3,
            "agreement",
            "gate",
        ]
        for digest in manifest.lineage.data:
            assert store.path(digest).read_bytes().startswith(b'{"messages":')
        weights = store.get(Name.parse("desk:weights"))
        assert weights.part("weights")
        assert weights.part("tokenizer")
        assert fsck(store, deep=True) == []
        text = manifest.encode() + b"".join(store.path(digest).read_bytes() for digest in manifest.evidence)
        assert str(settings.home).encode() not in text
        assert b"seconds" not in text


def test_everything_survives_prune(run: Run, settings: Settings) -> None:
    run()
    with Store.open(settings.store) as store:
        prune(store)
        assert fsck(store, deep=True) == []
    events: list[RunEvent] = []
    run(events=events)
    assert _begun(events) == []


def test_nothing_runs_twice(run: Run, fakes: Fakes) -> None:
    first = run()
    calls = len(fakes.calls)
    events: list[RunEvent] = []
    second = run(events=events)
    assert len(fakes.calls) == calls
    assert all(event.before for event in events if isinstance(event, StepEnds))
    assert second.names == first.names
    assert second.measured == first.measured


def test_not_even_in_another_recipe(run: Run, fakes: Fakes, workshop: Path, settings: Settings) -> None:
    run()
    other = workshop / "other.toml"
    other.write_text((workshop / "recipe.toml").read_text().replace('"desk"', '"desk2"'))
    events: list[RunEvent] = []
    make(other, settings, on_event=events.append, tools=fakes.tools())
    assert _begun(events) == ["release"]
    assert fakes.calls.count("train") == 1


def test_two_homes_give_one_digest(workshop: Path, tmp_path: Path) -> None:
    found = []
    for number in (1, 2):
        settings = Settings(home=tmp_path / f"home{number}", threads=number)
        found.append(make(workshop / "recipe.toml", settings, tools=Fakes().tools()).names)
    assert found[0] == found[1]


def test_row_order_does_not_matter(run: Run, workshop: Path, settings: Settings, fakes: Fakes) -> None:
    run()
    write_csv(workshop / "desk.csv", pairs()[::-1])
    events: list[RunEvent] = []
    run(events=events)
    assert _begun(events) == ["data"]


def test_changed_tuning_runs_what_depends_on_it(run: Run, workshop: Path) -> None:
    run()
    write_recipe(workshop, tune="epochs = 4")
    events: list[RunEvent] = []
    run(events=events)
    assert _begun(events)[0] == "tune"
    assert "convert base" not in _begun(events)
    assert "evaluate base" not in _begun(events)
    assert (
        next(event.why for event in events if isinstance(event, StepBegins)) == "because epochs changed from 3.0 to 4.0"
    )


def test_an_extra_type_costs_itself_alone(run: Run, workshop: Path) -> None:
    run()
    path = workshop / "recipe.toml"
    path.write_text(path.read_text().replace('["Q8_0"]', '["Q8_0", "Q4_0"]'))
    events: list[RunEvent] = []
    outcome = run(events=events)
    assert _begun(events) == ["quantize Q4_0", "evaluate Q4_0", "gate", "release"]
    assert "desk:q4_0" in outcome.names


def test_full_tuning_needs_no_merge(run: Run, workshop: Path, fakes: Fakes) -> None:
    write_recipe(workshop, tune='method = "full"')
    assert run().passed
    assert "merge" not in fakes.calls


def test_removed_name_is_released_again(run: Run, settings: Settings) -> None:
    first = run()
    with Store.open(settings.store) as store:
        store.remove(Name.parse("desk"))
    events: list[RunEvent] = []
    assert run(events=events).names == first.names
    assert _begun(events) == ["release"]


def test_failed_gate_keeps_the_old_model(run: Run, workshop: Path, fakes: Fakes, settings: Settings) -> None:
    old = Digest.parse(run().names["desk"])
    write_recipe(workshop, tune="epochs = 9", gate="min_token_f1 = 0.9")
    fakes.skill["Q8_0"] = fakes.skill["tuned"] = 0.5
    events: list[RunEvent] = []
    outcome = run(events=events)
    assert not outcome.passed
    assert outcome.names == {}
    assert len(outcome.failures()) == 1
    assert "token f1 of Q8_0" in outcome.failures()[0]
    missing = 0.9 - outcome.measured[2].token_f1
    assert f"FAILED by {missing:.3f}" in outcome.failures()[0]
    assert "release" not in _begun(events)
    with Store.open(settings.store) as store:
        assert store.resolve(Name.parse("desk")) == old
    trained = fakes.calls.count("train")
    write_recipe(workshop, tune="epochs = 9", gate="min_token_f1 = 0.4")
    events.clear()
    assert run(events=events).passed
    assert _begun(events) == ["gate", "release"]
    assert fakes.calls.count("train") == trained


@pytest.mark.parametrize(
    ("skill", "gate", "failing"),
    [
        ({"tuned": 1.0, "Q8_0": 0.8}, "", "token F1 lost in quantising of Q8_0"),
        ({"tuned": 1.0, "Q8_0": 0.8}, "max_quantized_drop = 0.5", None),
        ({"base": 1.0, "tuned": 0.8, "Q8_0": 0.8}, "", "token F1 gained over the base of tuned"),
        ({"tuned": 0.8, "Q8_0": 0.8}, "min_gain = 0.95", "token F1 gained over the base of tuned"),
        ({"tuned": 0.8, "Q8_0": 0.8}, "min_exact_match = 0.5", "exact match of Q8_0"),
        ({}, "min_exact_match = 1.0\nmin_token_f1 = 1.0\nmin_gain = 1.0\nmax_quantized_drop = 0", None),
    ],
)
def test_conditions(
    run: Run, workshop: Path, fakes: Fakes, skill: dict[str, float], gate: str, failing: str | None
) -> None:
    write_recipe(workshop, gate=gate)
    fakes.skill |= skill
    outcome = run()
    assert [line.split(":")[0] for line in outcome.failures()] == ([failing] if failing else [])
    assert outcome.passed == (failing is None)


@pytest.mark.parametrize(
    ("differing", "gap", "gate", "passes"),
    [
        (0.05, 1.0, "", True),
        (0.5, 1.0, "", False),
        (0.5, 0.01, "", True),
        (0.5, 1.0, "min_agreement = 0.5", True),
        (0.05, 1.0, "min_agreement = 1.0", False),
    ],
)
def test_served_answers_that_are_not_the_trained_model_s(
    run: Run, workshop: Path, fakes: Fakes, differing: float, gap: float, gate: str, passes: bool
) -> None:
    write_recipe(workshop, gate=gate)
    fakes.differing, fakes.gap = differing, gap
    outcome = run()
    assert outcome.passed == passes
    assert [line.split(":")[0] for line in outcome.failures()] == ([] if passes else ["answers as trained of tuned"])
    told = [note for note in outcome.notes if "others than the trained model gives" in note]
    assert bool(told) == (gap > 0.05)


def test_the_agreement_is_evidence(run: Run, fakes: Fakes, settings: Settings) -> None:
    fakes.differing, fakes.gap = 0.1, 1.0
    run()
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("desk"))
        documents = [msgspec.json.decode(store.path(digest).read_bytes()) for digest in manifest.evidence]
        [found] = [document for document in documents if document["kind"] == "agreement"]
        values = {fact["name"]: fact["value"] for fact in found["facts"]}
        rows = len(found["answers"])
        others = round(0.1 * rows)
        assert values == {"agreement.rows": rows, "agreement.same": rows - others, "agreement.near": 0}
        assert others > 0
        evaluations = [document for document in documents if document["kind"] == "evaluation"]
        [tuned] = [each for each in evaluations if each["facts"][0]["subject"] == found["facts"][0]["subject"]]
        assert [each["row"] for each in found["answers"]] == [each["row"] for each in tuned["answers"]][:rows]


def test_no_comparison_is_made_where_none_is_asked_for(run: Run, workshop: Path, fakes: Fakes) -> None:
    write_recipe(workshop, evaluate="compared = 0")
    outcome = run()
    assert outcome.passed
    assert "compare" not in fakes.calls
    assert "answers as trained" not in [condition.name for condition in outcome.conditions]


def test_another_number_to_compare_asks_no_question_again(run: Run, workshop: Path, fakes: Fakes) -> None:
    run()
    write_recipe(workshop, evaluate="compared = 3")
    events: list[RunEvent] = []
    run(events=events)
    assert _begun(events) == ["compare tuned", "gate", "release"]


def test_what_is_told(run: Run, fakes: Fakes) -> None:
    fakes.cut = 7
    events: list[RunEvent] = []
    outcome = run(events=events)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert "7 rows lose their end" in notes
    assert any("held out" in note for note in notes)
    assert any(
        isinstance(event, StepMoves) and event.fraction == 0.5 and "loss 2.000" in event.text for event in events
    )
    assert outcome.training["rows_cut"] == 7
    events.clear()
    run(events=events)
    assert "7 rows lose their end" in [event.text for event in events if isinstance(event, Note)]


def test_folder_for_people(run: Run) -> None:
    folder = run().folder
    names = {path.name for path in folder.iterdir()}
    assert {"loss.png", "loss.csv", "answers-base.json", "answers-tuned.json", "journal.jsonl", "last.json"} <= names
    answers = msgspec.json.decode((folder / "answers-tuned.json").read_bytes())["answers"]
    assert answers[0]["answer"] == answers[0]["reference"]


def test_nothing_temporary_stays(run: Run, settings: Settings) -> None:
    run()
    assert [path.name for path in (settings.runs / "scratch").iterdir()] == []
    assert [path.name for path in (settings.runs / "resumable").iterdir()] == []


def test_missing_extra_before_any_work(run: Run, fakes: Fakes, settings: Settings, workshop: Path) -> None:
    fakes.installed = False
    with pytest.raises(MissingExtra, match="torch"):
        run()
    assert fakes.calls == []
    assert not folder_of(read(workshop / "recipe.toml"), settings).exists()
    fakes.installed = True
    run()
    fakes.installed = False
    assert run().passed


def test_base_from_the_catalog(run: Run, workshop: Path, settings: Settings, fakes: Fakes, tmp_path: Path) -> None:
    first = run()
    path = workshop / "recipe.toml"
    path.write_text(path.read_text().replace('base = "base"', 'base = "desk:weights"').replace('"desk"', '"desk2"', 1))
    second = run()
    assert second.names["desk2"] != first.names["desk"]
    with Store.open(settings.store) as store:
        assert store.get(Name.parse("desk2")).lineage.base == Digest.parse(first.names["desk:weights"])


def test_name_with_a_tag(run: Run, workshop: Path) -> None:
    path = workshop / "recipe.toml"
    path.write_text(path.read_text().replace('"desk"', '"shop/desk:v2"') + '\n[release]\ntags = ["stable"]\n')
    assert list(run().names) == ["shop/desk:v2", "shop/desk:stable", "shop/desk:v2-weights"]


def test_without_quantisation(run: Run, workshop: Path, settings: Settings) -> None:
    path = workshop / "recipe.toml"
    path.write_text(path.read_text().replace('["Q8_0"]', "[]\nkeep = false"))
    assert list(run().names) == ["desk"]
    with Store.open(settings.store) as store:
        assert store.get(Name.parse("desk")).details.quantization == "F16"
        with pytest.raises(UnknownModel):
            store.get(Name.parse("desk:weights"))


def test_another_base_changes_everything_but_the_data(run: Run, workshop: Path) -> None:
    run()
    path = workshop / "recipe.toml"
    write_base(workshop / "base2", seed=1)
    path.write_text(path.read_text().replace('"base"', '"base2"'))
    events: list[RunEvent] = []
    run(events=events)
    assert _begun(events)[:2] == ["base", "convert base"]
    assert "data" not in _begun(events)
