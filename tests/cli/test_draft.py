"""'freehold draft' has a model write rows about a text, and marks them as written by it."""

import json
from pathlib import Path

import pytest

from freehold.core.event import Text
from freehold.core.settings import load
from freehold.serving import engine
from freehold.store import Store
from tests.cli.conftest import Freehold, assert_refused
from tests.serving.support import FakeEngine, add_model

TEXT = (
    "The library opens at nine in the morning and closes at six in the evening. A card costs two pounds and lasts for "
    "three years. Books may be borrowed for three weeks.\n"
)
GOOD = {"question": "When does the library open?", "answer": "It opens at nine in the morning."}
MADE_UP = {"question": "Who runs the library?", "answer": "The mayor's brother, since last winter."}


@pytest.fixture
def fake(home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine that says what its script says, in the place of llama.cpp."""
    found = FakeEngine()
    monkeypatch.setattr(engine, "Lazy", lambda: found)
    with Store.open(load({}).store) as store:
        add_model(store, "writer")
    return found


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "library.md"
    path.write_text(TEXT)
    return path


def say(fake: FakeEngine, *pairs: dict[str, str]) -> None:
    fake.script = [Text(json.dumps({"pairs": pairs}))]


def test_rows_are_written_and_marked(inside: Freehold, fake: FakeEngine, text: Path) -> None:
    say(fake, GOOD, MADE_UP)
    done = inside("draft", "library.md", "--model", "writer", "--out", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert "wrote rows.jsonl: 1 rows about 1 passages of library.md" in done.stdout
    assert "left out 1: the answer says what the passage does not" in done.stderr
    assert "nobody has checked that they are right" in done.stderr
    [row] = [json.loads(line) for line in (text.parent / "rows.jsonl").read_text().splitlines()]
    assert [message["content"] for message in row["messages"]] == list(GOOD.values())
    assert row["synthetic"].startswith("writer (sha256:")
    assert row["place"] == "line 1"
    asked = fake.workers[0].seen[0]
    assert asked.constraint is not None
    assert TEXT.strip() in asked.messages[0].content
    checked = inside("data", "check", "rows.jsonl", "--json")
    assert json.loads(checked.stdout)["facts"]["synthetic.rows"] == 1


def test_nothing_that_can_be_kept(inside: Freehold, fake: FakeEngine, text: Path) -> None:
    say(fake, MADE_UP)
    done = inside("draft", "library.md", "--model", "writer")
    assert done.returncode == 1
    assert "writer drafted nothing that can be kept: 1 times the answer says what the passage does not" in done.stderr
    assert not (text.parent / "library.jsonl").exists()


def test_a_file_that_is_there_is_not_written_over(inside: Freehold, text: Path) -> None:
    (text.parent / "library.jsonl").write_text("mine")
    assert_refused(inside("draft", "library.md"), "library.jsonl exists")
    assert (text.parent / "library.jsonl").read_text() == "mine"


def test_a_dry_run_asks_nobody(inside: Freehold, fake: FakeEngine, text: Path) -> None:
    text.write_text("".join(f"{number}. {TEXT}" for number in range(40)))
    done = inside("draft", "library.md", "--model", "writer", "--dry-run", "--json", "--passages", "2")
    said = json.loads(done.stdout)
    assert (said["passages"], said["rows"], said["dry_run"]) == (2, 0, True)
    assert fake.workers == []


def test_an_interrupted_draft_keeps_what_there_is(
    inside: Freehold, fake: FakeEngine, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freehold.data import drafting

    say(fake, GOOD)
    text.write_text("".join(f"{number}. {TEXT}" for number in range(40)))
    whole = drafting.judge
    judged: list[object] = []

    def once(*given: object) -> object:
        if judged:
            raise KeyboardInterrupt
        judged.append(given)
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(drafting, "judge", once)
    done = inside("draft", "library.md", "--model", "writer")
    assert done.returncode == 130
    assert "1 rows about 1 of " in done.stderr
    assert len((text.parent / "library.jsonl").read_text().splitlines()) == 1


def test_texts_and_models_that_are_none(inside: Freehold, home: Path, text: Path) -> None:
    assert_refused(inside("draft", "none.md"), "no such file: none.md")
    assert_refused(inside("draft", "library.md", "--model", "nobody"), "nobody")
    text.write_text("Too short.")
    assert_refused(inside("draft", "library.md"), "no passage of 80 characters")


@pytest.mark.slow
def test_a_real_model_is_held_to_the_form(freehold: Freehold, tiny: str, text: Path) -> None:
    """Random weights write nonsense, in the form that was asked for."""
    done = freehold("draft", "library.md", "--model", tiny, "--pairs", "1")
    assert done.returncode == 1
    assert "drafted nothing that can be kept" in done.stderr
