"""Where results go: what would keep them from it is said before the work, and what is done is not lost."""

import json
import shlex
from pathlib import Path

import pytest

from freehold.core.errors import WorkerFailed
from freehold.core.event import Text
from freehold.core.settings import load
from freehold.serving import engine
from freehold.store import Store
from tests.cli.conftest import Freehold, assert_refused
from tests.cli.test_draft import GOOD, TEXT
from tests.cli.test_streams import ROWS
from tests.serving.support import FakeEngine, add_model

WRITES = {
    "batch --out": ["batch", "rows.jsonl", "--out"],
    "batch --errors": ["batch", "rows.jsonl", "--errors"],
    "draft --out": ["draft", "text.md", "--model", "writer", "--out"],
    "notebook run --out": ["notebook", "run", "n.ipynb", "--out"],
    "quantize --save-imatrix": ["quantize", "writer", "--to", "Q4_0", "--as", "q", "--text", "text.md",
                                "--save-imatrix"],
    "runs compare --plot": ["runs", "compare", "a", "b", "--plot"],
    "sign --out": ["sign", "writer", "--key", "key", "--out"],
    "tune --report": ["tune", "writer", "rows.csv", "--out", "x", "--report"],
}  # fmt: skip


class Tired(FakeEngine):
    """Answers so many requests, and dies of the next."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        super().__init__()
        self.script = [Text(json.dumps({"pairs": [GOOD]}))]

    @property
    def refusal(self) -> WorkerFailed | None:
        asked = sum(len(worker.seen) for worker in self.workers)
        return WorkerFailed("the worker died", "Ask again") if asked > self.answers else None

    @refusal.setter
    def refusal(self, value: None) -> None:
        """It is tired by itself."""


@pytest.fixture
def fake(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tired:
    """In the place of llama.cpp, with a model called writer."""
    found = Tired(2)
    monkeypatch.setattr(engine, "Lazy", lambda: found)
    with Store.open(load({}).store) as store:
        add_model(store, "writer")
    (tmp_path / "text.md").write_text("".join(f"{number}. {TEXT}" for number in range(60)))
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "n.ipynb").write_text('{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}')
    return found


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize(("place", "said"), [("no/where", "there is no folder no. Make it first"), ("here", "here ")])
def test_a_place_that_is_none_is_said_before_the_work(
    inside: Freehold, fake: Tired, tmp_path: Path, what: str, place: str, said: str
) -> None:
    (tmp_path / "here").mkdir()
    if what.startswith("sign"):
        assert inside("keygen", "key").returncode == 0
    before = sorted(tmp_path.iterdir())
    assert_refused(inside(*WRITES[what], place), said)
    assert fake.workers == []
    assert sorted(tmp_path.iterdir()) == before
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(("answers", "rows"), [(2, 1), (0, 0)])
def test_a_draft_that_breaks_off_keeps_what_there_is(
    inside: Freehold, fake: Tired, tmp_path: Path, answers: int, rows: int
) -> None:
    fake.answers = answers
    done = inside("draft", "text.md", "--model", "writer", "--out", "rows of mine.jsonl", "-q")
    assert done.returncode == 1
    *kept, error = done.stderr.splitlines()
    assert error == "error: the worker died. Ask again"
    assert [f"{rows} rows about {answers} of " in line for line in kept] == [True] * bool(rows)
    path = tmp_path / "rows of mine.jsonl"
    assert path.exists() == bool(rows)
    assert not rows or len(path.read_text().splitlines()) == rows


def typed(done: object, after: str) -> list[str]:
    """The words of the command that is to be typed next, as a shell reads them."""
    said = "".join((getattr(done, "stdout", ""), getattr(done, "stderr", "")))
    return shlex.split(said.partition(after)[2].splitlines()[0].strip())


NAMES = ["rows of mine", "it's", "$(date)", "a;b", "plain"]


@pytest.mark.parametrize("name", NAMES)
def test_what_to_type_next_is_one_command_whatever_a_file_is_called(
    inside: Freehold, fake: Tired, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.csv").write_text(ROWS)
    made = inside("make", "--new", f"{name}.csv")
    assert made.returncode == 0, made.stderr
    assert typed(made, "Next: ") == ["freehold", "make", f"{name}.toml"]
    again = inside("make", "--new", f"{name}.csv")
    assert_refused(again, f"{name}.toml exists")
    assert shlex.split(again.stderr.partition("Run '")[2].rpartition("', or")[0]) == [
        "freehold",
        "make",
        f"{name}.toml",
    ]
    (tmp_path / f"{name}.md").write_text(TEXT)
    drafted = inside("draft", f"{name}.md", "--model", "writer", "--passages", "1")
    assert drafted.returncode == 0, drafted.stderr
    assert typed(drafted, "Next: ") == ["freehold", "data", "check", f"{name}.jsonl"]


def test_wheels_are_taken_out_of_a_bundle_by_the_line_that_is_shown(
    inside: Freehold, tiny: str, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "x-1.0-py3-none-any.whl").write_bytes(b"x")
    assert inside("bundle", "export", "tiny", "my models.fhb", "--wheels", "wheels").returncode == 0
    done = inside("bundle", "import", "my models.fhb", "--home", str(tmp_path / "other"))
    assert typed(done, "in the bundle: ") == ["tar", "-xf", "my models.fhb", "wheels"]
