"""Data is read as the rows that the objective learns from; other rows are refused by the name of the file."""

import importlib
import json
from pathlib import Path

import pytest

from freehold.cli import main
from freehold.data.rows import KINDS
from freehold.recipes import tools
from freehold.recipes.kinds import KIND_OF
from tests.recipes.kit import TOPICS, Fakes


@pytest.fixture
def command(workshop: Path, home: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a command whose trainer is the fake, with a file of answers that are judged."""
    monkeypatch.setattr(tools, "real", fakes.tools)
    monkeypatch.chdir(workshop)
    judged = [f"What of {topic}?,All of {topic},{number % 2}" for number, topic in enumerate(TOPICS)]
    (workshop / "judged.csv").write_text("\n".join(["question,answer,label", *judged]))
    labelled = [f"A letter on {topic},{'ab'[number % 2]}" for number, topic in enumerate(TOPICS)]
    (workshop / "labelled.csv").write_text("\n".join(["text,label", *labelled]))
    return workshop


def tune(capsys: pytest.CaptureFixture[str], *more: str, code: int) -> str:
    assert main.run(["tune", "./base", *more, "--out", "desk", "-q"]) == code
    return capsys.readouterr().err


def test_each_objective_learns_from_the_kind_that_is_read_for_it() -> None:
    pytest.importorskip("torch")
    for objective, kind in KIND_OF.items():
        module = importlib.import_module(f"freehold.tuning.objectives.{objective}")
        assert module.OBJECTIVE.rows is KINDS[kind]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["desk.csv", "--objective", "dpo"], "desk.csv: its records are no preference rows; columns: question, answer"),
        (["desk.csv", "--objective", "classify"], "desk.csv: its records are no labelled rows"),
        (["desk.csv", "--objective", "dpo"], "name the columns: --column user=NAME"),
        (["labelled.csv"], "labelled.csv has labelled rows, and objective sft learns from chat rows"),
        (["labelled.csv"], "Give --objective classify\n"),
        (["judged.csv"], "Give --objective kto, or --kind chat to learn every answer in it"),
        (
            ["desk.csv", "--kind", "judged"],
            "--kind is judged, and objective sft learns from chat rows. Give --kind chat",
        ),
        (["desk.csv", "--kind", "odd"], "--kind: 'odd' is unknown"),
        (["desk.csv", "--column", "user"], "--column 'user' is no ROLE=NAME"),
        (["desk.csv", "--column", "user=odd"], "desk.csv: columns: there is no column 'odd'"),
    ],
)
def test_rows_of_another_kind(
    command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    shown = tune(capsys, *more, code=2)
    assert said in shown
    assert "blobs" not in shown
    assert (fakes.calls, shown.count("\n")) == ([], 1)


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        (["desk.csv", "--objective", "grpo", "--reward", "exact"], {"prompt", "reference"}),
        (["judged.csv", "--objective", "kto"], {"messages", "label"}),
        (["judged.csv", "--kind", "chat"], {"messages"}),
        (["labelled.csv", "--objective", "classify"], {"text", "label"}),
        (["labelled.csv", "--column", "user=text", "--column", "assistant=label"], {"messages"}),
    ],
)
def test_rows_that_are_learned(
    command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str], more: list[str], keys: set[str]
) -> None:
    seen: list[set[str]] = []
    fakes.during_training = lambda job: seen.append(set(json.loads(job.train.read_bytes().splitlines()[0])))
    tune(capsys, *more, code=0)
    assert seen == [keys]


def test_broken_rows_are_left_out_where_that_is_wanted(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"prompt": f"What of {topic}?", "completion": f"All of {topic}"}) for topic in TOPICS]
    (command / "some.jsonl").write_text("\n".join([*lines, "7"]))
    tune(capsys, "some.jsonl", code=2)
    tune(capsys, "some.jsonl", "--broken", "drop", code=0)
