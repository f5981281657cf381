"""Runs seen from the command line: watched, compared, stopped, gone on with, and without a terminal."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freehold.cli import main
from freehold.core.settings import Settings
from freehold.recipes import records, tools
from freehold.recipes.records import Record
from freehold.store.processes import alive
from freehold.tuning.job import Answered, TrainJob
from tests.recipes.conftest import write_recipe
from tests.recipes.kit import Fakes

CHILD = """
import sys, time
from pathlib import Path
from freehold.cli import main
from freehold.recipes import tools
from tests.recipes import kit
fakes = kit.Fakes()
tools.real = fakes.tools
def hold(job):
    while not Path(sys.argv[1]).exists():
        time.sleep(0.02)
fakes.during_training = hold
sys.exit(main.run(sys.argv[2:]))
"""
PATIENCE = 90.0


@pytest.fixture
def command(workshop: Path, home: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a command whose trainer and engine are the fakes."""
    monkeypatch.setattr(tools, "real", fakes.tools)
    monkeypatch.chdir(workshop)
    return workshop


@pytest.fixture
def go(workshop: Path, home: Path) -> "Iterator[tuple[list[str], dict[str, str], Path]]":
    """A command line that trains until a file is there, its environment, and that file."""
    file = workshop / "go"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    yield [sys.executable, "-c", CHILD, str(file)], environment, file
    file.touch()


def wait(settings: Settings, until: Callable[[Record], bool]) -> Record:
    """The only run, once it is what is wanted."""
    end = time.monotonic() + PATIENCE
    while True:
        found = records.records(settings)
        if found and until(found[0]):
            return found[0]
        assert time.monotonic() < end, found
        time.sleep(0.05)


def trains(settings: Settings) -> Callable[[Record], bool]:
    return lambda record: records.last_point(records.place_of(settings, record.run)) is not None


def test_list_and_show(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runs"]) == 0
    assert "no run yet" in capsys.readouterr().err
    main.run(["make", "recipe.toml", "-q"])
    capsys.readouterr()
    assert main.run(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == ["desk-1", "desk", "done", "1/2", "2.000", "100"]
    assert lines[1].endswith("desk, desk:weights")
    assert main.run(["runs", "--json"]) == 0
    [each] = json.loads(capsys.readouterr().out)
    assert (each["run"], each["state"], each["loss"]) == ("desk-1", "done", 2.0)
    assert main.run(["runs", "show", "desk"]) == 0
    shown = capsys.readouterr().out
    assert "tune.epochs" in shown
    assert "All about" in shown
    assert "gradient norm" in shown
    assert main.run(["runs", "show", "desk-1", "--json"]) == 0
    detail = json.loads(capsys.readouterr().out)
    assert detail["points"][0]["loss"] == 2.0
    assert detail["scores"]["tuned"]["token_f1"] == 1.0
    assert main.run(["runs", "log", "desk-1", "--follow"]) == 0
    assert "desk-1: done" in capsys.readouterr().out
    assert main.run(["runs", "show", "nothing"]) == 2
    assert "no such run: nothing" in capsys.readouterr().err


def test_what_a_model_said_while_it_was_tuned(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.says = (Answered("Where is\nmy order?", "On its  way."), Answered("Who are you? " * 20, "I am a desk", False))
    assert main.run(["tune", "./base", "desk.csv", "--out", "help"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "        step 0/2  Where is my order? -> (nothing)" in lines
    assert "        step 2/2  Where is my order? -> On its way." in lines
    assert main.run(["runs", "show", "help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    at = shown.index("Samples while it was tuned")
    assert shown[at + 1 : at + 4] == ["  > Where is my order?", "  step 0  (nothing)", "  step 2  On its way."]
    assert shown[at + 4].endswith("Who are …")
    assert len(shown[at + 4]) < 110
    assert shown[at + 6] == "  step 2  I am a desk …"
    assert main.run(["runs", "show", "help", "--json"]) == 0
    detail = json.loads(capsys.readouterr().out)
    assert detail["points"][0]["samples"][0] == {"question": "Where is\nmy order?", "answer": "", "whole": True}
    assert [each["step"] for each in detail["samples"]] == [2, 2]
    assert detail["samples"][0]["answer"] == "On its  way."
    assert main.run(["runs", "log", "help"]) == 0
    assert "step 2/2  Where is my order? -> On its way." in capsys.readouterr().out
    assert main.run(["tune", "./base", "desk.csv", "--out", "other", "--epochs", "2", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_compare(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.run(["make", "recipe.toml", "-q"])
    write_recipe(command, tune="epochs = 4")
    main.run(["make", "recipe.toml", "-q"])
    capsys.readouterr()
    assert main.run(["runs", "compare", "desk-1", "desk-2", "--plot", "both.png"]) == 0
    rows = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["tune.epochs"] == ["tune.epochs", "3.0", "4.0"]
    assert rows["last loss"] == ["last", "loss", "2.000", "2.000"]
    assert rows["token f1 of tuned"][-2:] == ["1.000", "1.000"]
    assert (command / "both.png").read_bytes().startswith(b"\x89PNG")
    assert main.run(["runs", "compare", "desk-1", "desk-2", "--json"]) == 0
    sides = json.loads(capsys.readouterr().out)
    assert [side["settings"] for side in sides.values()] == [{"tune.epochs": 3.0}, {"tune.epochs": 4.0}]
    assert main.run(["runs", "compare", "desk-1"]) == 2
    assert "compares with nothing" in capsys.readouterr().err


def test_stop_and_resume(
    command: Path,
    go: "tuple[list[str], dict[str, str], Path]",
    settings: Settings,
    fakes: Fakes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line, environment, _ = go
    with subprocess.Popen([*line, "make", "recipe.toml"], env=environment, stderr=subprocess.PIPE) as child:
        wait(settings, trains(settings))
        assert main.run(["runs", "resume", "desk"]) == 2
        assert "desk-1 is running" in capsys.readouterr().err
        assert main.run(["runs", "stop", "desk"]) == 0
        assert child.wait(PATIENCE) == 130
    assert "desk-1 is paused: go on with 'freehold runs resume desk-1'" in capsys.readouterr().out
    write_recipe(command, tune="epochs = 9")
    assert main.run(["runs", "resume", "desk-1"]) == 0
    shown = capsys.readouterr()
    assert "was changed since" in shown.err
    assert "desk is ready" in shown.out
    assert fakes.jobs[0].epochs == 3
    assert records.find(settings, "desk").resumed == 1
    assert main.run(["runs", "show", "desk"]) == 0
    assert "  resumed  once\n" in capsys.readouterr().out
    assert main.run(["runs", "stop", "desk"]) == 2
    assert main.run(["runs", "resume", "desk"]) == 2


def test_what_is_gone_on_with_writes_the_report_that_was_asked_for(
    command: Path, settings: Settings, fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(job: TrainJob) -> None:
        raise KeyboardInterrupt

    fakes.during_training = stop
    line = ["tune", "base", "desk.csv", "--out", "desk-lora", "--report", "figures.json", "-q"]
    assert main.run(line) == 130
    assert records.find(settings, "desk-lora").report == command / "figures.json"
    fakes.during_training = lambda job: None
    monkeypatch.chdir(tmp_path)
    assert main.run(["runs", "resume", "desk-lora", "-q"]) == 0
    assert json.loads((command / "figures.json").read_bytes())["name"] == "desk-lora"


def test_a_terminal_that_closes_ends_nothing(
    command: Path, go: "tuple[list[str], dict[str, str], Path]", settings: Settings
) -> None:
    line, environment, file = go
    pid, terminal = pty.fork()
    if not pid:  # the session's leader, as a shell is: the kernel hangs up on it and on what runs in front
        os.execve(line[0], [*line, "make", "recipe.toml"], environment)
    seen = b""
    while b"step 1/2" not in seen:
        seen += os.read(terminal, 4096)
    wait(settings, trains(settings))
    os.close(terminal)
    time.sleep(0.5)
    assert wait(settings, lambda record: True).now == "running"
    file.touch()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    record = wait(settings, lambda record: True)
    assert record.now == "done"
    said = (records.place_of(settings, record.run) / records.LOG).read_text()
    assert "desk-1: done" in said
    assert "desk is ready" in said
    assert "\x1b" not in said


def test_detached(command: Path, go: "tuple[list[str], dict[str, str], Path]", settings: Settings) -> None:
    line, environment, file = go
    # Its pipes end although the run goes on: it holds none of them.
    done = subprocess.run(
        [*line, "make", "recipe.toml", "--detach"], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0
    record = wait(settings, trains(settings))
    assert done.stdout.startswith(f"desk-1 runs in the background (process {record.pid})")
    assert "freehold runs stop desk-1" in done.stdout
    assert record.now == "running"
    file.touch()
    record = wait(settings, lambda record: not alive(record.pid, record.born))
    assert record.now == "done"
    assert "desk is ready" in (records.place_of(settings, record.run) / records.LOG).read_text()


def test_what_fails_before_it_begins_is_said_at_once(
    command: Path, go: "tuple[list[str], dict[str, str], Path]"
) -> None:
    line, environment, _ = go
    done = subprocess.run(
        [*line, "make", "other.toml", "--detach"], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2
    assert "no such recipe: other.toml" in done.stderr


def test_what_failed_in_the_background_says_why(
    command: Path, go: "tuple[list[str], dict[str, str], Path]", settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    line, environment, _ = go
    (command / "desk.csv").write_text('{"text": [\n')
    making = [*line, "make", "recipe.toml"]
    assert subprocess.run(making, env=environment, capture_output=True, timeout=PATIENCE).returncode == 2
    assert records.records(settings) == [], "who looked on has read it"
    done = subprocess.run([*making, "--detach"], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout[:6]) == (0, "desk-1")
    record = wait(settings, lambda record: record.now == "failed")
    assert "desk.csv" in record.error
    capsys.readouterr()
    assert main.run(["runs", "log", "desk-1"]) == 0
    assert record.error in capsys.readouterr().out
