"""Several settings tried, the best one taken: each once, with what is known of all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.cli._runsview import comparison, show_run, summary
from freehold.core.errors import BadData, BadInput, BadRecipe, Interrupted
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.proofs.card import of
from freehold.recipes import records
from freehold.recipes.events import Note, RunEvent
from freehold.recipes.plan import plan_of
from freehold.recipes.runner import make
from freehold.recipes.schema import TuneSection
from freehold.recipes.sweep import candidates
from freehold.recipes.tools import Tools
from freehold.recipes.tuning import Tuned, plan, recipe_of, tune
from freehold.store import Store
from freehold.store.check import fsck, prune
from freehold.tuning.job import Progress, TrainJob, TrainResult
from tests.recipes.kit import Fakes


def values(**keys: Any) -> dict[str, dict[str, Any]]:
    return {
        "model": {"name": "desk-lora", "base": "base"},
        "data": {"path": "desk.csv", "held_out": 0.2},
        "tune": keys,
    }


def run(workshop: Path, settings: Settings, fakes: Fakes, events: list[RunEvent] | None = None, **keys: Any) -> Tuned:
    said = [] if events is None else events
    return tune(recipe_of(values(**keys), workshop), settings, on_event=said.append, tools=fakes.tools())


@pytest.fixture
def scored(fakes: Fakes) -> Fakes:
    """A trainer for which rank 16 at alpha 8 is the best."""
    fakes.held_out_loss = lambda job: abs(job.rank - 16) / 10 + job.alpha / 100
    return fakes


def test_every_combination_is_tried_and_the_lowest_loss_taken(workshop: Path, settings: Settings, scored: Fakes):
    events: list[RunEvent] = []
    tuned = run(workshop, settings, scored, events, rank=[8, 16], alpha=[8.0, 32.0])
    tried = [(job.rank, job.alpha) for job in scored.jobs]
    assert sorted(tried) == [(8, 8), (8, 32), (16, 8), (16, 32)]
    assert tuned.settings["rank"] == 16
    assert tuned.settings["alpha"] == 8
    assert {each["name"]: round(each["held_out_loss"], 2) for each in tuned.candidates} == {
        "rank=8 alpha=8.0": 0.88, "rank=8 alpha=32.0": 1.12, "rank=16 alpha=8.0": 0.08, "rank=16 alpha=32.0": 0.32,
    }  # fmt: skip
    assert "rank=16 alpha=8.0 is taken: of 4 its held-out loss is the lowest, 0.0800, before 0.3200" in tuned.why
    assert [event.text for event in events if isinstance(event, Note) and event.task == "tune"] == [tuned.why]


def test_what_is_known_of_all_is_evidence(workshop: Path, settings: Settings, scored: Fakes):
    run(workshop, settings, scored, rank=[8, 16])
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("desk-lora"))
        records = [msgspec.json.decode(store.path(digest).read_bytes()) for digest in manifest.evidence]
        assert [record["kind"] for record in records] == ["data", "training", "sweep"]
        sweep = records[-1]
        assert sweep["chosen"] == "rank=16"
        assert [each["settings"] for each in sweep["candidates"]] == [{"rank": 8}, {"rank": 16}]
        assert sweep["candidates"][0]["training"]["losses"] == [2.0, 1.0]
        chosen = {fact["subject"]["text"] for fact in sweep["facts"] if fact["name"] == "tune.chosen" and fact["value"]}
        weights = manifest.part("adapter")
        assert weights is not None
        assert chosen == {weights.digest.text}
        assert "tune.held_out_loss" in of(store, Name.parse("desk-lora"))
        prune(store)
        assert fsck(store, deep=True) == []


def test_what_was_tried_is_not_tried_again(workshop: Path, settings: Settings, scored: Fakes):
    first = run(workshop, settings, scored, rank=[8, 16])
    assert run(workshop, settings, scored, rank=[8, 16]) == first
    assert len(scored.jobs) == 2
    run(workshop, settings, scored, rank=[8, 16, 32])
    assert [job.rank for job in scored.jobs[2:]] == [32]
    run(workshop, settings, scored, rank=32)
    assert len(scored.jobs) == 3


def test_a_sweep_that_is_stopped_goes_on_behind_what_is_done(workshop: Path, settings: Settings, scored: Fakes):
    def interrupt(job: TrainJob) -> None:
        if len(scored.jobs) == 2:
            raise KeyboardInterrupt

    scored.during_training = interrupt
    with pytest.raises(Interrupted):
        run(workshop, settings, scored, rank=[8, 16, 32])
    done = scored.jobs[0].rank
    tuned = run(workshop, settings, scored, rank=[8, 16, 32])
    assert [job.rank for job in scored.jobs].count(done) == 1
    assert tuned.settings["rank"] == 16


def test_methods_are_tried_and_the_name_is_for_what_the_best_one_makes(
    workshop: Path, settings: Settings, fakes: Fakes
):
    fakes.held_out_loss = lambda job: {"lora": 2.0, "dora": 1.0}[job.method]
    tuned = run(workshop, settings, fakes, method=["lora", "dora"])
    assert tuned.method == "dora"
    assert sorted(fakes.calls) == ["merge", "train", "train"]
    with Store.open(settings.store) as store:
        assert store.get(Name.parse("desk-lora")).part("weights")


def test_with_patience_the_lowest_loss_on_the_way_counts(workshop: Path, settings: Settings, fakes: Fakes):
    fakes.held_out_loss = lambda job: 10.0 + job.rank  # 9 before the first step
    tuned = run(workshop, settings, fakes, rank=[16, 8], patience=2, evaluations=5)
    assert [each["held_out_loss"] for each in tuned.candidates] == [9.0, 9.0]
    assert tuned.settings["rank"] == 16
    assert [each["held_out_loss"] for each in run(workshop, settings, fakes, rank=[16, 8]).candidates] == [26, 18]


def test_time_is_shared():
    found = candidates(TuneSection(rank=(8, 16), learning_rate=(1e-3, 1e-4), time="1m"))
    assert list(found) == [
        "rank=8 learning_rate=0.001", "rank=8 learning_rate=0.0001", "rank=16 learning_rate=0.001",
        "rank=16 learning_rate=0.0001",
    ]  # fmt: skip
    paths = {"out": Path("o"), "train": Path("t"), "held_out": None, "base": None}
    assert {each.job(**paths).seconds for each in found.values()} == {15.0}
    assert candidates(TuneSection(rank=(8,), time="1m")) == {"rank=8": TuneSection(rank=8, time="1m")}


def test_a_recipe_makes_its_model_of_the_best_one(workshop: Path, settings: Settings, scored: Fakes):
    path = workshop / "sweep.toml"
    path.write_text(
        '[model]\nname = "desk"\nbase = "base"\n[data]\npath = "desk.csv"\nheld_out = 0.2\n'
        '[tune]\nrank = [8, 16]\n[quantize]\ntypes = ["Q8_0"]\n'
    )
    tasks = [entry.task for entry in plan_of(path, settings).entries]
    assert [task for task in tasks if task.startswith("tune")] == ["tune rank=16", "tune rank=8", "tune"]
    outcome = make(path, settings, tools=scored.tools())
    assert outcome.passed
    assert outcome.training["chosen"] == "rank=16"
    assert any("rank=16 is taken" in note for note in outcome.notes)
    with Store.open(settings.store) as store:
        records = [
            msgspec.json.decode(store.path(each).read_bytes()) for each in store.get(Name.parse("desk")).evidence
        ]
    assert "sweep" in [record.get("kind") for record in records]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"rank": []}, "rank"),
        ({"rank": [8, 8]}, "rank has 8 twice"),
        ({"rank": [8, 0]}, "rank"),
        ({"rank": [8, 16], "evaluations": 0}, "evaluations is 0"),
        ({"method": ["lora", "full"]}, "are for adapters"),
        ({"learning_rate": [1e-3, 1e-4], "method": "full"}, "are for adapters"),
        ({"rank": list(range(1, 9)), "alpha": [float(n) for n in range(1, 9)]}, "64 combinations"),
    ],
)
def test_what_cannot_be_swept_is_refused(workshop: Path, keys: dict[str, Any], said: str):
    with pytest.raises(BadRecipe, match=said):
        recipe_of(values(**keys), workshop)


def test_without_a_held_out_loss_nothing_is_chosen(workshop: Path, settings: Settings, fakes: Fakes):
    with pytest.raises(BadData, match="no held-out loss"):
        run(workshop, settings, fakes, rank=[8, 16])


def test_a_plan_is_of_one_setting(workshop: Path, settings: Settings, fakes: Fakes):
    file = recipe_of(values(rank=[8, 16]), workshop)
    with pytest.raises(BadInput, match="one setting, and there are 2"):
        plan(file, settings, seconds=1.0, on_event=lambda event: None, tools=fakes.tools())


LEARNS = {8: (4.0, 3.5), 16: (2.0, 1.0)}
"""Losses of steps by the rank of a candidate."""


@pytest.fixture
def telling(scored: Fakes) -> Tools:
    """A trainer that tells of each step, rank 16 first, which is the best."""

    def train(job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainResult:
        for step, loss in enumerate(LEARNS[job.rank], 1):
            on_progress(Progress("training", step, 2, loss, 10.0 * job.rank))
        return scored.tools().train(job, lambda progress: None)

    return replace(scored.tools(), train=train)


def test_a_sweeps_figures_are_those_of_the_candidate_that_was_taken(
    workshop: Path, settings: Settings, telling: Tools, capsys: pytest.CaptureFixture[str]
):
    file = recipe_of(values(rank=[8, 16], log="tensorboard"), workshop)
    tune(file, settings, on_event=lambda event: None, tools=telling)
    [record] = records.records(settings)
    place = records.place_of(settings, record.run)
    assert [(point.task, point.loss) for point in records.points(place)] == [
        ("tune rank=16", 2.0), ("tune rank=16", 1.0), ("tune rank=8", 4.0), ("tune rank=8", 3.5),
    ]  # fmt: skip
    each = summary(settings, record)
    assert (each["candidate"], each["step"], each["loss"], each["tokens_per_second"]) == ("rank=16", 2, 1.0, 160.0)
    assert records.losses(place, records.shown_task(settings, record)) == ({1: 2.0, 2: 1.0}, {})
    [side] = comparison(settings, [record]).values()
    assert (side["first_loss"], side["last_loss"], side["steps"]) == (2.0, 1.0, 2)
    show_run(settings, record)
    table = capsys.readouterr().out.partition("gradient norm")[2].splitlines()[1:3]
    assert [row.split()[:2] for row in table] == [["1", "2.000"], ["2", "1.000"]]


def test_a_sweep_that_was_stopped_shows_the_candidate_that_it_is_at(
    workshop: Path, settings: Settings, telling: Tools, scored: Fakes
):
    def interrupt(job: TrainJob) -> None:
        if job.rank == 8:
            raise KeyboardInterrupt

    scored.during_training = interrupt
    file = recipe_of(values(rank=[8, 16]), workshop)
    with pytest.raises(Interrupted):
        tune(file, settings, on_event=lambda event: None, tools=telling)
    [record] = records.records(settings)
    each = summary(settings, record)
    assert (each["candidate"], each["step"], each["loss"]) == ("rank=8", 2, 3.5)


def test_a_board_has_each_candidate_for_itself(workshop: Path, settings: Settings, telling: Tools):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    file = recipe_of(values(rank=[8, 16], log="tensorboard"), workshop)
    tune(file, settings, on_event=lambda event: None, tools=telling)
    [record] = records.records(settings)
    for rank, losses in LEARNS.items():
        place = records.place_of(settings, record.run) / "tensorboard" / f"rank={rank}"
        board = accumulator.EventAccumulator(str(place))
        board.Reload()
        assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [*enumerate(losses, 1)]
        [text] = board.Tensors("settings/text_summary")
        assert f"| tune.rank | {rank} |".encode() in text.tensor_proto.string_val[0]
