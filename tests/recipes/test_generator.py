"""Data that a script writes."""

from pathlib import Path

import pytest

from freehold.core.errors import BadData
from freehold.core.settings import Settings
from freehold.recipes.plan import plan_of
from tests.recipes.conftest import Run
from tests.recipes.kit import Fakes

SCRIPT = """
import argparse, json, pathlib, os, sys
from words import WORDS
p = argparse.ArgumentParser()
p.add_argument("--out"); p.add_argument("--seed", type=int); p.add_argument("--rows", type=int, default=40)
a = p.parse_args()
assert "SECRET" not in os.environ
def rows(count, start):
    for n in range(count):
        word = WORDS[(n + a.seed) % len(WORDS)]
        yield {"messages": [{"role": "user", "content": f"Say {word} {'x' * (start + n)}"},
                            {"role": "assistant", "content": f"{word}!"}], "skill": "echo"}
for name, count, start in (("train", a.rows, 1), ("held_out", 12, 500)):
    lines = [json.dumps(row) for row in rows(count, start)]
    pathlib.Path(a.out, f"{name}.jsonl").write_text("\\n".join(lines + lines[:1]))
"""


@pytest.fixture
def generated(workshop: Path) -> Path:
    folder = workshop / "gen"
    folder.mkdir()
    (folder / "make.py").write_text(SCRIPT)
    (folder / "words.py").write_text("WORDS = ['red', 'blue', 'green']\n")
    path = workshop / "recipe.toml"
    path.write_text(
        path.read_text().replace('path = "desk.csv"\nheld_out = 0.2', 'generator = "gen/make.py"\nrows = 30')
    )
    return path


def test_rows_of_a_generator(run: Run, generated: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    outcome = run()
    assert outcome.passed
    assert "data: make.py wrote 31 rows to learn from and 13 to hold out" in outcome.notes
    assert outcome.measured[0].rows == 13


def test_its_other_files_count(run: Run, generated: Path, settings: Settings) -> None:
    run()
    (generated.parent / "gen" / "words.py").write_text("WORDS = ['red', 'blue', 'gold']\n")
    assert plan_of(generated, settings).entries[0].why == "because generator changed"


def test_one_that_fails_says_its_last_words(run: Run, generated: Path, settings: Settings) -> None:
    (generated.parent / "gen" / "make.py").write_text("print('starting')\nraise SystemExit('no words left')\n")
    with pytest.raises(BadData, match="no words left"):
        run()
    assert list((settings.runs / "scratch").iterdir()) == []


def test_one_that_writes_nothing(run: Run, generated: Path) -> None:
    (generated.parent / "gen" / "make.py").write_text("")
    with pytest.raises(BadData, match=r"no such file: .*train.jsonl"):
        run()


def test_dry_run_shows_it(generated: Path, settings: Settings) -> None:
    entry = plan_of(generated, settings).entries[0]
    assert entry.task == "data"
    assert entry.parameters["generator"].startswith("sha256:")
