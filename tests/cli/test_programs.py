"""What programs read: JSON of every command that says anything, and nothing else on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.core.settings import load
from freehold.store import processes
from tests.cli.conftest import Freehold
from tests.cli.test_remote import Fake, fake
from tests.cli.test_runs import add
from tests.cli.test_usage import COMMANDS, EVERY, options

__all__ = ["fake"]

TEXTS = {("data", "card"), ("runs", "log")}
"""Commands whose output is a text."""


@EVERY
def test_every_command_can_be_read_by_a_program(words: tuple[str, ...]) -> None:
    spelt = {name for option in options(words) for name in option.opts}
    assert ("--json" in spelt) != (words in TEXTS)


def test_the_texts_are_commands() -> None:
    assert set(COMMANDS) >= TEXTS


def test_a_modelfile(inside: Freehold, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text('FROM tiny\nSYSTEM "Be kind."\nPARAMETER temperature 0.5\n')
    assert inside("create", "kind").returncode == 0
    told = json.loads(inside("show", "kind", "--modelfile", "--json").stdout)
    assert told["name"] == "kind"
    assert {"PARAMETER temperature 0.5", "SYSTEM Be kind."} <= set(told["modelfile"].replace('"', "").splitlines())
    shown = inside("show", "kind", "--modelfile").stdout
    assert shown.split("\n", 1)[1] == told["modelfile"]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("words", [("stop", "starter"), ("stop", "--all")])
def test_how_many_workers_were_stopped(inside: Freehold, fake: Fake, words: tuple[str, ...], number: int) -> None:
    fake.body = json.dumps({"stopped": number}).encode()
    done = inside(*words, "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"stopped": number}, "")
    asked = {"model": "starter"} if words[1] == "starter" else {"all": True}
    assert fake.asked == [("/freehold/v1/workers/stop", asked)]
    told = inside(*words)
    assert ("unloaded" in told.stdout) == bool(number)
    assert ("loaded" in told.stderr) == (not number)


def test_keys_that_are_trusted(inside: Freehold, tmp_path: Path) -> None:
    hint = json.loads(inside("keygen", "key", "--json").stdout)["hint"]
    for space in ("org", "_"):
        added = inside("trust", "add", "key.pub", "--for", space, "--json")
        assert (json.loads(added.stdout), added.stderr) == ({"for": space, "key": hint}, "")
    listed = json.loads(inside("trust", "list", "--json").stdout)
    assert [(each["for"], each["key"]) for each in listed] == [("_", hint), ("org", hint)]
    removed = inside("trust", "rm", hint[:8], "--for", "org", "--json")
    assert json.loads(removed.stdout) == [{"for": "org", "key": hint}]
    assert json.loads(inside("trust", "rm", hint[:8], "--json").stdout) == [{"for": "_", "key": hint}]
    assert json.loads(inside("trust", "list", "--json").stdout) == []


def test_a_run_that_is_stopped(inside: Freehold, home: Path) -> None:
    code = "import time; print(flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        born = processes.birth(running.pid)
        add(load({}), "desk-1", pid=running.pid, born=born, task="tune")
        done = inside("runs", "stop", "desk-1", "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"run": "desk-1", "state": "paused"}, "")
    assert running.returncode == 0, "it was interrupted, not killed"
