"""Output that has nowhere to go, letters that a terminal has not, and names that are no text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.cli._output import Bar, emit
from tests.cli.conftest import Freehold, assert_refused, command
from tests.cli.terminal import terminal

ODD = os.fsdecode(b"caf\xe9.csv")
FORMS = ("Where is the parcel of {}", "When does the {} open", "May I bring {} along", "How much is the {} here")
THINGS = ("gate", "shop", "hall", "pool", "park")
ROWS = "question,answer\n" + "".join(f"{form.format(it)}?,About the {it}.\n" for form in FORMS for it in THINGS)


def shell(line: str) -> subprocess.CompletedProcess[bytes]:
    """Freehold with these words, in a shell; bytes as they came."""
    return subprocess.run(["bash", "-c", f'"$@" {line}', "bash", *command()], capture_output=True, check=False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("ps", 0), ("ps --json", 0), ("ps --nope", 2)])
def test_a_closed_stream_changes_nothing_of_the_others(home: Path, words: str, code: int, closed: str) -> None:
    done = shell(f"{words} {closed}")
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (code == 0 and ">&-" not in closed.replace("2>&-", ""))
    said = done.stderr.decode()
    assert ("error: " in said) == (code == 2 and "2>&-" not in closed)
    assert "unexpected" not in said


def test_what_is_opened_does_not_take_the_place_of_a_closed_stream(home: Path, tmp_path: Path) -> None:
    code = (
        "from freehold.cli._border import settle_process; settle_process()\n"
        "import os, sys; print('to nobody', flush=True); print('to nobody', file=sys.stderr, flush=True)\n"
        "sys.exit(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR) < 3)"
    )
    line = f'"{sys.executable}" -W error -c "$1" "$2" <&- >&- 2>&-'
    file = tmp_path / "mine"
    done = subprocess.run(["bash", "-c", line, "bash", code, str(file)], check=False)
    assert done.returncode == 0
    assert file.read_bytes() == b""


def test_letters_that_a_terminal_has_not_are_spelt(freehold: Freehold, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    done = freehold("data", "check", "rows.csv", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode in (0, 1), done.stderr
    assert "\\u2588" in done.stdout, "a bar of the histogram"
    assert done.stderr == ""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_file_may_have_a_name_that_is_no_text(
    inside: Freehold, freehold: Freehold, tmp_path: Path, as_json: bool
) -> None:
    (tmp_path / ODD).write_text(ROWS)
    if as_json:
        done = inside("data", "check", ODD, "--json")
        assert os.fsencode(json.loads(done.stdout)["file"]) == b"caf\xe9.csv", "the very file"
    else:
        done = freehold("data", "check", ODD, env={"LC_ALL": "C.UTF-8"})
        assert done.stdout.startswith("caf\\udce9.csv: csv, chat rows\n")
    assert done.returncode in (0, 1)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "args",
    [
        ("run", "starter", "h\udce9llo"),
        ("run", "starter", "hello", "--system", "h\udce9llo"),
        ("make", "--new", ODD),
        ("show", "h\udce9llo"),
        ("connect", "curl", "--model", "h\udce9llo"),
    ],
)
def test_words_that_are_no_text_are_refused_in_one_line(
    inside: Freehold, tmp_path: Path, home: Path, args: tuple[str, ...]
) -> None:
    (tmp_path / ODD).write_text(ROWS)
    assert_refused(inside(*args), "\\udce9")
    assert sorted(path.name for path in tmp_path.iterdir() if path != home) == [ODD], "nothing is left half written"


def test_only_what_is_no_text_is_spelt_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"name": "é\x9b", "path": Path(ODD), "list": [1.5, None, "x\udc80"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": "é\x9b", "path": ODD, "list": [1.5, None, "x\udc80"]}
    assert out.isascii()
    assert out.startswith('{\n  "name"')


@pytest.mark.parametrize("columns", [12, 40, 200])
def test_a_bar_stays_on_its_line_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    with terminal(monkeypatch, columns) as seen:
        bar = Bar("copying a model with a name that is rather long")
        for done in range(0, 11, 5):
            bar(done << 20, 10 << 20)
    drawn = [line.strip("\n") for line in seen.text.replace("\n", "\r").split("\r") if line.strip("\n")]
    assert drawn[0].startswith("copying a m")
    assert all(len(line) < columns for line in drawn)
    assert any("% of 10 MB" in line for line in drawn) == (columns == 200)
