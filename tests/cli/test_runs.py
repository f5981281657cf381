"""'freehold runs' on records of every kind, damaged ones too."""

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.settings import Settings, load
from freehold.recipes import records
from freehold.recipes.records import LOG, POINTS, RECIPE, Point, Record
from freehold.store.processes import me
from tests.cli.conftest import Freehold, assert_refused

NOW = time.time()


@pytest.fixture
def settings(home: Path) -> Settings:
    return load({})


def add(at: Settings, run: str, *points: Point, **fields: Any) -> Path:
    """A record; the folder where it is kept."""
    given = {"name": "desk", "kind": "tune", "path": Path("/r/desk.toml"), "folder": at.home / "files" / run}
    place = records.place_of(at, run)
    place.mkdir(parents=True)
    records.write(at, Record(**{"run": run, "started": NOW - 7200, **given, **fields}))
    (place / POINTS).write_bytes(b"".join(msgspec.json.encode(point) + b"\n" for point in points))
    return place


def point(step: int, loss: float | None = None, held_out: float | None = None) -> Point:
    return Point(
        time=NOW - 3600 + step,
        step=step,
        steps=20,
        loss=loss,
        held_out_loss=held_out,
        gradient_norm=None if loss is None else 0.5,
        tokens_per_second=None if loss is None else 1234.5,
        memory=5_000_000,
        tokens=step * 100,
    )


STATES: list[tuple[dict[str, Any], str, str]] = [
    ({"state": "done", "result": {"desk": "sha256:x", "desk:q8": "sha256:y"}}, "done", "desk, desk:q8"),
    ({"state": "done", "passed": False}, "done", "kept back by its gate"),
    ({"state": "failed", "error": "the disk is full"}, "failed", "the disk is full"),
    ({"state": "running", "pid": 1 << 22, "born": "1", "task": "tune"}, "paused", "in tune"),
    ({"state": "running", "pid": os.getpid(), "born": "of another", "task": "data"}, "paused", "in data"),
    ({"state": "running", "pid": me()[0], "born": me()[1], "task": "convert base"}, "running", "in convert base"),
]


@pytest.mark.parametrize(("fields", "state", "said"), STATES)
def test_each_state_is_told(
    inside: Freehold, settings: Settings, fields: dict[str, Any], state: str, said: str
) -> None:
    place = add(settings, "desk-1", point(1, 2.5), point(2, 1.25), point(3, held_out=1.5), since=NOW - 3600, **fields)
    head, row = inside("runs").stdout.splitlines()
    assert head.split() == ["RUN", "NAME", "STATE", "STEP", "LOSS", "TOKENS/S", "STARTED", "RESULT"]
    assert row.split()[:6] == ["desk-1", "desk", state, "2/20", "1.250", "1,234"]
    assert "2 hours ago" in row
    assert row.endswith(said)
    [told] = json.loads(inside("runs", "--json").stdout)
    assert (told["state"], told["step"], told["steps"], told["loss"]) == (state, 2, 20, 1.25)
    shown = inside("runs", "show", "desk-1").stdout
    assert shown.startswith(f"desk-1: tune of desk, {state}\n")
    assert ("process" in shown) == (state == "running")
    assert str(place / LOG) in shown
    assert json.loads(inside("runs", "show", "desk", "--json").stdout)["run"] == "desk-1", "a model: its last run"
    if state != "running":
        assert_refused(inside("runs", "stop", "desk-1"), f"does not run: it is {state}")
    if state != "paused" and not fields.get("error"):
        assert_refused(inside("runs", "resume", "desk-1"), f"desk-1 is {state}")


def test_figures_of_some_steps_stand_for_all(inside: Freehold, settings: Settings) -> None:
    points = [point(step, 5 - step / 100) for step in range(1, 301)]
    add(settings, "desk-1", *points[:1], point(1, held_out=4.5), *points[1:], point(300, held_out=2.0), scores={
        "base": {"token_f1": 0.25, "exact_match": 0.125},
    }, samples=({"question": "Where\n is it? " + "x " * 99, "answer": ""}, {"reference": "only"}), resumed=2, settings={
        "tune.rank": 8, "tune.alpha": None, "data.columns": {}, "model.base": "tiny", "quantize.types": ["Q8_0"],
        "tune.layers": 4,
    })  # fmt: skip
    shown = inside("runs", "show", "desk-1").stdout
    table = shown.partition("step  loss")[2].partition("model")[0].splitlines()[1:]
    rows = [line.split() for line in table if line.strip()]
    assert [int(row[0]) for row in rows] == sorted({int(row[0]) for row in rows})
    assert len(rows) == 12
    assert rows[0][:3] == ["1", "4.990", "4.500"]
    assert rows[-1][:3] == ["300", "2.000", "2.000"]
    assert next(line.split() for line in shown.splitlines() if "12.5%" in line) == ["base", "0.250", "12.5%"]
    assert "resumed" in shown
    assert "twice" in shown
    sample = next(line for line in shown.splitlines() if line.startswith("  > Where is it?"))
    assert sample.endswith(" …")
    assert len(sample) < 110
    said = shown.partition("Settings")[2].splitlines()
    assert sorted(line.split() for line in said if line) == [["model.base", "tiny"], ["tune.rank", "8"]], (
        "what is not set, is of another method, or of no tuning, is left out"
    )


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "letters that are none": lambda data: data.replace(b"desk.toml", b"d\xffsk.toml"),
    "another form": lambda data: data.replace(b'"settings"', b'"pid": "x", "settings"'),
    "of another run": lambda data: data.replace(b'"desk-2"', b'"desk-1"'),
    "of a run elsewhere": lambda data: data.replace(b'"desk-2"', b'"../../desk-1"'),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_record_costs_no_other(inside: Freehold, settings: Settings, what: str) -> None:
    add(settings, "desk-1", state="failed", error="it was so")
    path = add(settings, "desk-2", state="failed") / "run.json"
    path.write_bytes(DAMAGE[what](path.read_bytes()))
    (records.place_of(settings, "notes.txt")).write_text("mine")
    (records.place_of(settings, "empty")).mkdir()
    done = inside("runs")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["desk-1"]
    assert_refused(inside("runs", "show", "desk-2"), "no such run: desk-2")
    assert inside("runs", "show", "desk").stdout.startswith("desk-1: ")


def test_damaged_points_are_left_out(inside: Freehold, settings: Settings) -> None:
    place = add(settings, "desk-1", point(1, 2.0), point(2, 1.0), state="failed")
    lines = (place / POINTS).read_bytes().splitlines(keepends=True)
    torn = [b"\xff\n", b'{"step":\n', b'{"step": "\xff"}\n', b"[" * 5000 + b"\n", lines[1][:20]]
    (place / POINTS).write_bytes(b"".join([lines[0], *torn[:2], lines[1], *torn[2:]]))
    told = json.loads(inside("runs", "show", "desk-1", "--json").stdout)
    assert [(each["step"], each["loss"]) for each in told["points"]] == [(1, 2.0), (2, 1.0)]
    assert "1.000" in inside("runs").stdout


def test_a_log_is_shown_as_far_as_it_can_be(inside: Freehold, settings: Settings) -> None:
    place = add(settings, "desk-1", state="failed")
    assert inside("runs", "log", "desk-1").stdout == "", "it said nothing"
    (place / LOG).write_bytes(b"one\n\x1b[2Jtwo \xff\nno end")
    for more in ((), ("--follow",)):
        done = inside("runs", "log", "desk-1", *more)
        assert (done.returncode, done.stdout) == (0, "one\n[2Jtwo �\nno end")


def test_a_run_whose_recipe_is_lost_says_where_it_was(inside: Freehold, settings: Settings) -> None:
    place = add(settings, "desk-1", state="failed", kind="make")
    for content in (None, b"\xff", b"[model\n", b"[model]\nname = 7\n"):
        if content is not None:
            (place / RECIPE).write_bytes(content)
        done = inside("runs", "resume", "desk-1")
        assert done.returncode in (1, 2)
        assert_refused(done, code=done.returncode)
        assert "/r/desk.toml" in done.stderr


def test_runs_side_by_side(inside: Freehold, settings: Settings, tmp_path: Path) -> None:
    common = {"tune.method": "lora", "data.path": "d.csv"}
    add(settings, "desk-1", point(1, 3.0), point(9, 2.0, 2.5), settings={**common, "tune.rank": 8}, state="done",
        figures={"tokens": 900, "seconds": 61.0, "peak_rss": 10**9}, scores={"tuned": {"token_f1": 0.5}})  # fmt: skip
    add(settings, "desk-2", settings={**common, "tune.rank": 16, "tune.seed": 3}, state="failed")
    add(settings, "other-1", settings={**common, "tune.rank": 8}, name="other", state="failed")
    rows = {line[:22].strip(): line[22:].split("  ") for line in inside(
        "runs", "compare", "desk-1", "desk-2").stdout.splitlines()}  # fmt: skip
    assert [cell.strip() for cell in rows["tune.rank"] if cell.strip()] == ["8", "16"]
    assert "tune.method" not in rows, "both have the same"
    told = json.loads(inside("runs", "compare", "desk-1", "desk-2", "--json").stdout)
    assert told["desk-1"] | {"seconds": 0} == {
        "settings": {"tune.rank": 8, "tune.seed": None}, "state": "done", "steps": 9, "first_loss": 3.0,
        "last_loss": 2.0, "held_out_loss": 2.5, "lowest_held_out_loss": 2.5, "tokens": 900,
        "tokens_per_second": 1234.5, "training_seconds": 61.0, "seconds": 0, "memory": 10**9,
        "scores": {"tuned": {"token_f1": 0.5}},
    }  # fmt: skip
    assert told["desk-2"]["last_loss"] is None
    assert "the same" in inside("runs", "compare", "desk-1", "other").stdout
    for same in ([], ["desk-1"]):
        assert_refused(inside("runs", "compare", "desk-1", *same), "one run compares with nothing")
    assert_refused(inside("runs", "compare", "desk-1", "nobody"), "no such run: nobody")
