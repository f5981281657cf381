"""Progress of files and of runs: lines where nobody watches, bars in a terminal, nothing when quiet."""

import pytest

from freehold.cli import _makeview as view
from freehold.cli._bars import Bars
from freehold.cli._makeview import View
from freehold.recipes.events import Note, StepBegins, StepEnds, StepMoves
from freehold.recipes.plan import Entry, Plan
from tests.cli.terminal import terminal

MOVES = [StepMoves("tune", fraction / 100, f"step {fraction}") for fraction in range(101)]
RUN = [
    StepBegins("data", 1, 3, "new"),
    StepEnds("data", 1, 3, 0.0, before=True),
    StepBegins("tune", 2, 3, "the seed changed"),
    *MOVES,
    Note("tune", "it stopped early"),
    StepEnds("tune", 2, 3, 83.2),
    StepBegins("quantize Q4_K_M", 3, 3, "new"),
    StepEnds("quantize Q4_K_M", 3, 3, 2.04),
]


def told(capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> list[str]:
    with View(quiet=quiet) as shown:
        for event in RUN:
            shown(event)
    caught = capsys.readouterr()
    assert caught.out == "", "progress is no result"
    return caught.err.splitlines()


def test_a_run_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys)
    assert lines[0] == "[1/3] read and split the data (new)"
    assert lines[1] == "[1/3] read and split the data: done before"
    assert lines[2] == "[2/3] tune (the seed changed)"
    assert lines[-4] == "        it stopped early"
    assert lines[-3] == "[2/3] tune: done in 1 min 23 s"
    assert lines[-2:] == ["[3/3] quantise to Q4_K_M (new)", "[3/3] quantise to Q4_K_M: done in 2.0 s"]


def test_a_step_says_each_tenth_once(capsys: pytest.CaptureFixture[str]) -> None:
    moved = [line.split() for line in told(capsys) if "step" in line]
    assert [each[0] for each in moved] == [f"{tenth * 10}%" for tenth in range(11)]
    assert moved[3] == ["30%", "step", "30"]


def test_a_second_step_begins_at_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with View(quiet=False) as shown:
        for number in (1, 2):
            shown(StepBegins("tune", number, 2, "new"))
            shown(StepMoves("tune", 0.55, "half"))
    assert capsys.readouterr().err.count("55%  half") == 2


def test_a_move_without_words_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with View(quiet=False) as shown:
        shown(StepMoves("tune", 0.5))
    assert capsys.readouterr().err == ""


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(capsys, quiet=True) == []
    with terminal(monkeypatch) as seen:
        told(capsys, quiet=True)
    assert seen.raw == ""


def test_a_run_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as seen:
        told(capsys)
    assert "[1/3] read and split the data: done before" in seen.text
    assert "[2/3] tune: done in 1 min 23 s" in seen.text
    assert "it stopped early" in seen.text
    assert seen.raw.rstrip().endswith(("\x1b[?25h", "s")), "the cursor is shown again"
    assert "\x1b[?25h" in seen.raw


@pytest.mark.parametrize("text", ["loss [/bold] 0.3", "[red]row 3[/red]", "[/]", "[link=x]y", "50% [done]", "\\[x]"])
def test_words_of_a_run_are_no_markup(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name or a line of data may hold brackets: they are shown, and end no run."""
    with terminal(monkeypatch) as seen:
        with View(quiet=False) as shown:
            shown(StepBegins(f"quantize {text}", 1, 1, "new"))
            shown(StepMoves(f"quantize {text}", 0.5, f"at {text}"))
            shown(Note("tune", f"note {text}"))
    for expected in (f"quantise to {text}", f"at {text}", f"note {text}"):
        assert expected in seen.text


def test_nothing_drives_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as seen:
        with View(quiet=False) as shown:
            shown(StepBegins("tune", 1, 1, "new"))
            shown(StepMoves("tune", 0.5, "a\x1b]0;owned\x07b"))
            shown(Note("tune", "c\x1b]0;owned\x07d"))
        bars = Bars()
        with bars:
            bars("e\x1b]0;owned\x07f", 5, 10)
    assert "\x1b]0;" not in seen.raw
    assert "\x07" not in seen.raw


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (59.9, "59.9 s"), (59.97, "1 min 0 s"), (60, "1 min 0 s"), (125, "2 min 5 s"),
     (119.6, "2 min 0 s"), (3600, "60 min 0 s")],
)  # fmt: skip
def test_how_long(seconds: float, said: str) -> None:
    assert view.duration(seconds) == said


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("base", "fetch the base model"),
        ("evaluate base", "ask the held-out questions: base"),
        ("convert tuned", "convert to GGUF: tuned"),
        ("merge", "merge the adapter into the base"),
        ("gate", "judge"),
        ("something new", "something new"),
    ],
)
def test_tasks_in_plain_words(task: str, said: str) -> None:
    assert view.title(task) == said


def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    entries = (
        Entry("data", "done", "nothing changed", "sha256:" + "ab" * 32),
        Entry("tune", "run", "the seed changed", "sha256:" + "cd" * 32),
        Entry("gate", "waits", "it needs tune"),
    )
    view.show_plan(Plan(entries))
    shown = capsys.readouterr()
    head, *rows = shown.out.splitlines()
    assert head.split() == ["step", "why", "key"]
    assert [row.split("  ")[0].strip() for row in rows] == ["data", "tune", "gate"]
    assert "will run" in rows[1]
    assert "may run" in rows[2]
    assert rows[0].endswith("nothing changed   abababababab")
    assert rows[1].endswith("cdcdcdcdcdcd")
    assert "'may run'" in shown.err
    view.show_plan(Plan(entries), quiet=True)
    assert capsys.readouterr().err == ""


def test_files_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(least=100) as bars:
        for done in (0, 500, 1000):
            bars("large.gguf", done, 1000)
            bars("small.json", done // 100, 10)
        bars("second.gguf", 2000, 2000)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["large.gguf"] * 3 + ["second.gguf"]
    assert "0 % of 1.0 kB" in lines[0]
    assert "100 % of 2.0 kB" in lines[3]


def test_files_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(quiet=True) as bars:
        bars("a", 10, 10)
    assert capsys.readouterr().err == ""


def test_files_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as seen, Bars() as bars:
        bars("weights [Q4].gguf", 0, 2_000_000)
        bars("weights [Q4].gguf", 2_000_000, 2_000_000)
        bars("second.gguf", 1_000, 4_000)
    assert "weights [Q4].gguf" in seen.text
    assert "2.0/2.0 MB" in seen.text
    assert "second.gguf" in seen.text
