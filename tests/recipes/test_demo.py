"""The demo: its data, its server, and all of it once."""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from freehold import data
from freehold.cli._demo_server import _kept, ask, served
from freehold.cli._server import running
from freehold.cli.demo import QUESTIONS, _unpack
from freehold.core.errors import UnknownModel
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.data.normal import normal
from freehold.recipes.schema import read
from freehold.store import Store
from freehold.store.importing import import_gguf
from tests.tiny import write_gguf


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, str]]:
    with (_unpack(tmp_path).parent / "helpdesk.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_data_is_many_ways_of_asking_few_things(rows: list[dict[str, str]]) -> None:
    assert len(rows) >= 320
    answers = Counter(row["answer"] for row in rows)
    assert len(answers) >= 24
    assert min(answers.values()) >= 10
    assert len({normal(row["question"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["question"] == row["question"].strip()
        assert row["answer"].endswith(".")


def test_questions_of_the_demo_are_new(rows: list[dict[str, str]]) -> None:
    assert not {normal(question) for question in QUESTIONS} & {normal(row["question"]) for row in rows}


def test_answers_are_all_learned_from(tmp_path: Path) -> None:
    """Held-out questions have answers that occur on the other side."""
    recipe = read(_unpack(tmp_path)).recipe
    found = data.load(tmp_path / recipe.data.path)
    parts = data.divide(found.rows, recipe.data.held_out, recipe.tune.seed)
    assert {row.answer for row in parts.held_out} <= {row.answer for row in parts.train}


def test_files_of_the_user_stay(tmp_path: Path) -> None:
    _unpack(tmp_path)
    (tmp_path / "recipe.toml").write_text("# mine")
    _unpack(tmp_path)
    assert (tmp_path / "recipe.toml").read_text() == "# mine"
    shipped = resources.files("freehold.assets").joinpath("demo", "helpdesk.csv").read_bytes()
    assert (tmp_path / "helpdesk.csv").read_bytes() == shipped


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home, threads=1)


def test_server_is_asked_and_ended(settings: Settings, tmp_path: Path) -> None:
    with Store.open(settings.store) as store:
        import_gguf(store, write_gguf(tmp_path / "tiny.gguf"), Name.parse("tiny"))
    with served(settings, keep=False) as state:
        assert running(settings) == state
        answer = ask(state, "tiny", "Hello?")
        assert answer.question == "Hello?"
        assert answer.seconds > 0
        with served(settings, keep=False) as same:
            assert same == state
        assert running(settings) == state
        with pytest.raises(UnknownModel):
            ask(state, "nobody", "Hello?")
    assert running(settings) is None


def test_kept_server_stays(settings: Settings) -> None:
    with served(settings, keep=True) as state:
        pass
    try:
        assert running(settings) == state
    finally:
        child = _kept.pop()
        assert child.pid == state.pid
        child.terminate()
        child.wait()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_demo(home: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "freehold", "demo", "--json"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "FREEHOLD_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - begin < 720
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 6e9
    shown = json.loads(ended.stdout)
    figures = {line["model"]: line["token_f1"] for line in shown["outcome"]["measured"]}
    assert figures["base"] + 0.2 < figures["tuned"]
    assert "tyre" in QUESTIONS[0]
    assert "puncture" in shown["answers"][0]["answer"]
    assert "Saturday" in shown["answers"][1]["answer"]
