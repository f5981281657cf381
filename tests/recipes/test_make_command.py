"""What `freehold make` prints and returns."""

import json
from pathlib import Path

import pytest

from freehold.cli import main
from freehold.recipes import tools
from freehold.tuning.job import TrainJob
from tests.recipes.conftest import write_recipe
from tests.recipes.kit import Fakes


@pytest.fixture
def command(workshop: Path, home: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a command whose trainer and engine are the fakes."""
    monkeypatch.setattr(tools, "real", fakes.tools)
    monkeypatch.chdir(workshop)
    return workshop


def test_last_screen(command: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["make", "recipe.toml"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("model"))
    assert lines[head].split() == ["model", "token", "F1", "exact", "match", "size", "tokens/s"]
    assert [line.split()[0] for line in lines[head + 1 : head + 4]] == ["base", "tuned", "Q8_0"]
    assert "desk is ready" in shown.out
    assert "token F1 lost in quantising of Q8_0: 0.000, at most 0.030 wanted: passed" in shown.out
    assert "desk, desk:weights" in shown.out
    assert "freehold run desk" in shown.out
    assert "[4/13] tune (not done before)" in shown.err
    assert "step 1/2  loss 2.000" in shown.err
    for path in (line.split()[-1] for line in lines if str(home) in line):
        assert Path(path).exists()


def test_second_time(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.run(["make", "recipe.toml"])
    first = capsys.readouterr()
    assert main.run(["make", "recipe.toml"]) == 0
    second = capsys.readouterr()
    assert second.err.count("done before") == 13
    assert [line for line in second.out.splitlines() if " is ready" not in line] == [
        line for line in first.out.splitlines() if " is ready" not in line
    ]
    assert main.run(["make", "recipe.toml", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("done before: key ") == 13


def test_quiet(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["make", "recipe.toml", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_json(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["make", "recipe.toml", "--json"]) == 0
    shown = capsys.readouterr()
    outcome = json.loads(shown.out)
    assert shown.err == ""
    assert outcome["passed"] is True
    assert outcome["names"]["desk"].startswith("sha256:")
    assert {line["model"]: line["token_f1"] for line in outcome["measured"]} == {"base": 0, "tuned": 1, "Q8_0": 1}
    assert main.run(["make", "recipe.toml", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {entry["state"] for entry in plan["entries"]} == {"done"}


def test_failed_gate(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.skill |= {"tuned": 0.5, "Q8_0": 0.5}
    write_recipe(command, gate="min_token_f1 = 0.9")
    assert main.run(["make", "recipe.toml"]) == 1
    shown = capsys.readouterr()
    assert "desk was not released" in shown.out
    assert "freehold run" not in shown.out
    error = shown.err.splitlines()[-1]
    assert error.startswith("error: the gate kept desk: token f1 of Q8_0")
    assert "FAILED by" in error


def test_interrupt(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(job: TrainJob) -> None:
        raise KeyboardInterrupt

    fakes.during_training = stop
    assert main.run(["make", "recipe.toml"]) == 130
    assert "interrupted in the step 'tune'" in capsys.readouterr().err
    fakes.during_training = lambda job: None
    assert main.run(["make", "recipe.toml"]) == 0


def test_terminal(command: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert main.run(["make", "recipe.toml"]) == 0
    shown = capsys.readouterr()
    assert "tune: done in" in shown.err
    assert "(not done before)" not in shown.err
