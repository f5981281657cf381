"""The data step says what is wrong on which line and what it did, keeps it as evidence, and changes no row unasked."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold import data
from freehold.core.digest import Digest
from freehold.core.errors import BadData, BadRecipe
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.recipes.events import Note, RunEvent
from freehold.recipes.plan import plan_of
from freehold.recipes.runner import make
from freehold.recipes.schema import read
from freehold.store import Store
from tests.recipes.conftest import Run
from tests.recipes.kit import Fakes, pairs, write_csv


def recipe(workshop: Path, **keys: str) -> Path:
    """The workshop's recipe with more keys in [data]."""
    path = workshop / "recipe.toml"
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    path.write_text(path.read_text().replace("held_out = 0.2\n", f"held_out = 0.2\n{more}"))
    return path


def evidence(settings: Settings, name: str = "desk") -> dict[str, Any]:
    with Store.open(settings.store) as store:
        digest = store.get(Name.parse(name)).evidence[0]
        found: dict[str, Any] = msgspec.json.decode(store.path(digest).read_bytes())
    return found


def notes(events: list[RunEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note) and event.task == "data"]


def add(workshop: Path, *lines: str) -> None:
    with (workshop / "desk.csv").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_what_was_found_is_told_and_kept(run: Run, workshop: Path, settings: Settings) -> None:
    add(workshop, "Who answers?,ann@example.org does.", "Nobody?,", f"{pairs()[0][0]},{pairs()[0][1]}")
    events: list[RunEvent] = []
    outcome = run(events=events)
    last = len(pairs()) + 2
    assert f"1 row without question or answer is left out (line {last + 1})" in notes(events)
    assert f"1 exact repetition is left out (line {last + 2})" in notes(events)
    assert f"1 row holds e-mail addresses (line {last})" in notes(events)
    found = evidence(settings)
    assert found["kind"] == "data"
    facts = {fact["name"]: (fact["value"], fact["grade"]) for fact in found["facts"]}
    assert facts["data.records"] == (len(pairs()) + 3, "verified")
    assert facts["data.rows"][0] + facts["data.held_out.rows"][0] == len(pairs()) + 1
    assert facts["data.dropped.empty"] == (1, "verified")
    assert facts["data.pii.email"] == (1, "inferred")
    assert facts["data.licence"] == (None, "unknown")
    assert facts["data.leaks"] == (0, "verified")
    assert facts["data.tokens.rows"][0] == facts["data.rows"][0]
    assert [finding["check"] for finding in found["findings"]][:2] == ["empty", "repeated"]
    assert b"ann@" not in json.dumps(found).encode()
    card = (outcome.folder / "data-card.md").read_text()
    assert "- The licence under which it may be used: nobody said." in card


def test_the_facts_of_the_step_can_be_read_by_programs(run: Run, workshop: Path) -> None:
    add(workshop, "Nobody?,")
    outcome = run()
    lines = [json.loads(line) for line in (outcome.folder / "journal.jsonl").read_text().splitlines()]
    facts = next(line["facts"] for line in lines if line["task"] == "data")
    [finding] = [each for each in facts["findings"] if each["check"] == "empty"]
    assert (finding["action"], finding["rows"], finding["unit"]) == ("dropped", 1, "line")
    assert finding["named"] == [{"line": len(pairs()) + 2, "reason": ""}]
    assert facts["kind"] == "chat"
    assert facts["checks"]["rows"] == facts["train"]


def test_more_to_find_makes_nothing_anew(run: Run, workshop: Path) -> None:
    """The rows are the same: what was built on them stands."""
    run()
    add(workshop, "Nobody?,")
    fakes = Fakes()
    run(given=fakes)
    assert fakes.calls == []


def test_a_broken_row_stops_it_and_can_be_left_out(run: Run, workshop: Path) -> None:
    add(workshop, "a,b,c")
    with pytest.raises(BadData, match="has 3 fields where the header has 2"):
        run()
    recipe(workshop, broken='"drop"')
    events: list[RunEvent] = []
    run(events=events)
    assert any(text.startswith("1 broken row is left out (line ") for text in notes(events))


def test_personal_data_is_masked_before_anything_is_learned(
    workshop: Path, run: Run, fakes: Fakes, settings: Settings
) -> None:
    add(workshop, *(f"Who answers in room {word}?,{word}@example.org does." for word in ("ann", "bob", "eve", "dan")))
    recipe(workshop, pii='"mask"')
    run()
    with Store.open(settings.store) as store:
        sides = [store.path(digest).read_text() for digest in store.get(Name.parse("desk")).lineage.data]
    assert "@example.org" not in "".join(sides)
    assert "".join(sides).count("[email]") == 4


def test_a_file_of_its_own_is_held_out_and_its_questions_are_not_learned(
    workshop: Path, run: Run, settings: Settings
) -> None:
    leaked = pairs()[5]
    write_csv(workshop / "exam.csv", [(leaked[0].upper(), "Another answer."), ("What is new here today?", "This.")])
    recipe(workshop, held_out_path='"exam.csv"')
    events: list[RunEvent] = []
    run(events=events)
    assert f"{len(pairs()) - 1} rows to learn from, 2 held out" in notes(events)
    [leak] = [text for text in notes(events) if "what is held out" in text]
    assert leak.startswith("1 row that asks what is held out is left out (line 7: the question of held-out row ")
    found = {fact["name"]: fact["value"] for fact in evidence(settings)["facts"]}
    assert (found["data.dropped.leak"], found["data.leaks"], found["data.held_out.rows"]) == (1, 0, 2)


def test_a_changed_file_that_is_held_out_is_named(workshop: Path, run: Run, settings: Settings) -> None:
    write_csv(workshop / "exam.csv", [("What is new here today?", "This.")])
    path = recipe(workshop, held_out_path='"exam.csv"')
    run()
    write_csv(workshop / "exam.csv", [("What is new here today?", "That.")])
    entry = next(entry for entry in plan_of(path, settings).entries if entry.task == "data")
    assert entry.why == "because held_out_source changed"
    (workshop / "exam.csv").unlink()
    with pytest.raises(BadData, match="no such file") as caught:
        plan_of(path, settings)
    assert "[data] held_out_path" in caught.value.remedy


def test_what_is_declared_is_in_the_card_as_such(run: Run, workshop: Path, settings: Settings) -> None:
    recipe(workshop, about='{licence = "CC-BY-4.0", source = "Our own desk"}')
    outcome = run()
    facts = {fact["name"]: (fact["value"], fact["grade"]) for fact in evidence(settings)["facts"]}
    assert facts["data.licence"] == ("CC-BY-4.0", "declared")
    assert facts["data.consent"] == (None, "unknown")
    card = (outcome.folder / "data-card.md").read_text()
    assert "| The licence under which it may be used | CC-BY-4.0 | declared |" in card


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kind": '"dpo"'}, "kind: 'dpo' is unknown"),
        ({"about": '{licens = "x"}'}, "about: 'licens' is unknown (did you mean 'licence'?)"),
        ({"pii": '"sell"'}, "[data] pii"),
        ({"broken": '"list"'}, "[data] broken"),
        ({"held_out_path": '"x.csv"', "generator": '"make.py"'}, "a generator and held_out_path"),
    ],
)
def test_keys_that_make_no_sense(workshop: Path, keys: dict[str, str], said: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        read(recipe(workshop, **keys))
    assert said in caught.value.message


def test_rows_that_the_base_refuses_are_named_before_training(run: Run, workshop: Path, fakes: Fakes) -> None:
    template = workshop / "base" / "chat_template.jinja"
    refused = "{% if 'gloves' in messages[0].content %}{{ raise_exception('no gloves here') }}{% endif %}"
    template.write_text(refused + template.read_text())
    with pytest.raises(BadData, match=r"desk.csv line 11: .*no gloves here; 3 in all"):
        run()
    recipe(workshop, broken='"drop"')
    events: list[RunEvent] = []
    run(events=events)
    assert any(
        text.startswith("3 rows are refused by the chat template of the base (line 11") for text in notes(events)
    )
    assert "train" in fakes.calls


@pytest.mark.parametrize(("kind", "objective"), [("preference", "dpo"), ("text", "text")])
def test_other_kinds_are_divided_and_kept_as_they_are(
    workshop: Path, settings: Settings, kind: str, objective: str, fakes: Fakes
) -> None:
    """Models are measured by the answer that is wanted, where there is one."""
    lines = [
        {"prompt": question, "chosen": answer, "rejected": "No."} if kind == "preference" else {"text": question}
        for question, answer in pairs()
    ]
    (workshop / "desk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = workshop / "recipe.toml"
    text = path.read_text().replace("desk.csv", "desk.jsonl")
    path.write_text(text.replace("[tune]", f'[tune]\nobjective = "{objective}"'))
    kinds: list[str] = []
    fakes.during_training = lambda job: kinds.extend(row.kind for row in data.read_any(job.train))
    if kind == "preference":
        outcome = make(path, settings, tools=fakes.tools())
        assert outcome.measured[1].token_f1 == 1
    else:
        with pytest.raises(BadData, match="held-out text rows have no answers to measure a model by"):
            make(path, settings, tools=fakes.tools())
    assert set(kinds) == {kind}


def test_two_homes_give_one_card(workshop: Path, tmp_path: Path) -> None:
    found = []
    for number in (1, 2):
        settings = Settings(home=tmp_path / f"home{number}", threads=1)
        make(workshop / "recipe.toml", settings, tools=Fakes().tools())
        found.append(Digest.of_bytes(json.dumps(evidence(settings), sort_keys=True).encode()))
    assert found[0] == found[1]
