"""`freehold make` with wrong input: one line, a remedy, exit code 2, and nothing left behind."""

from pathlib import Path

import pytest

from freehold.cli import main
from freehold.tuning import launch
from tests.recipes.kit import write_base, write_csv

RECIPE = '[model]\nname = "desk"\nbase = "base"\n[data]\npath = "desk.csv"\n'


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a good recipe, base and data."""
    place = tmp_path / "work"
    write_base(place / "base")
    write_csv(place / "desk.csv")
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(place)
    return place


def _refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert main.run(["make", *args]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def _left(home: Path) -> list[str]:
    """What a refused run left, but for the empty store."""
    kept = ("store", "store/blobs", "store/blobs/sha256", "store/tmp", "store/catalog.sqlite", "runs", "runs/scratch")
    found = [path.relative_to(home).as_posix() for path in home.rglob("*")]
    return [path for path in found if path not in kept]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("[model\n", ["not TOML"]),
        (RECIPE + "[tune]\nepoch = 3\n", ["unknown key 'epoch' in [tune]", "'epochs'"]),
        (RECIPE + "[tunes]\n", ["'tune'"]),
        (RECIPE + "[tune]\nrank = 0\n", ["[tune] rank", ">= 1"]),
        (RECIPE.replace('"base"', '"nobody"'), ["nobody"]),
        (RECIPE.replace("desk.csv", "none.csv"), ["no such file", "none.csv"]),
        (RECIPE + 'columns = {user = "qestion"}\n', ["'question'"]),
        (RECIPE + 'columns = {usr = "question"}\n', ["'user'"]),
        (RECIPE + "held_out = 5000\n", ["held_out"]),
        (RECIPE + 'format = "xml"\n', ["unknown format", "csv"]),
    ],
)
def test_recipes(folder: Path, home: Path, capsys: pytest.CaptureFixture[str], recipe: str, words: list[str]) -> None:
    (folder / "recipe.toml").write_text(recipe)
    line = _refused(capsys, "recipe.toml", "-q")
    for word in words:
        assert word in line
    assert _left(home) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b"alpha,beta\n1,2\n", ["alpha, beta", "columns ="]),
        (b"question,answer\nWhy?,So.\n", ["1 usable row", "at least 10"]),
        (b"question,answer\n" + b"caf\xe9,x\n" * 20, ["0xe9", "line 2", "iconv"]),
        (b"question,answer\n" + b"a,b\n" * 20 + b"a,b,c\n", ["line 22", "3 fields"]),
    ],
)
def test_data(folder: Path, home: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: list[str]) -> None:
    (folder / "desk.csv").write_bytes(content)
    for args in (("recipe.toml", "-q"), ("--new", "desk.csv")):
        line = _refused(capsys, *args)
        for word in words:
            assert word in line
    assert _left(home) == []
    assert not (folder / "desk.toml").exists()


def test_broken_line_of_jsonl(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "desk.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    assert "line 2" in _refused(capsys, "--new", "desk.jsonl")


def test_neither_or_both(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--new DATA" in _refused(capsys)
    assert "--new DATA" in _refused(capsys, "recipe.toml", "--new", "desk.csv")


def test_missing_extra_names_its_command(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    assert "pip install 'freehold[tune]'" in _refused(capsys, "recipe.toml")
    assert main.run(["demo"]) == 2
    assert "pip install 'freehold[tune]'" in capsys.readouterr().err
    assert _left(home) == []


def test_new_does_not_overwrite(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["make", "--new", "desk.csv"]) == 0
    shown = capsys.readouterr().out
    assert "Next: freehold make desk.toml" in shown
    assert "72, with 24 different answers" in shown
    text = (folder / "desk.toml").read_text()
    assert "desk.toml exists" in _refused(capsys, "--new", "desk.csv")
    assert (folder / "desk.toml").read_text() == text


def test_dry_run_changes_nothing(folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    assert main.run(["make", "--new", "desk.csv", "--dry-run"]) == 0
    assert main.run(["make", "recipe.toml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "not done before" in shown
    assert "after base, data" in shown
    assert sorted(folder.rglob("*")) == before
    assert _left(home) == []


def test_disk_that_cannot_hold_it(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    line = _refused(capsys, "recipe.toml")
    assert "needed" in line
    assert "full" in line
    assert _left(home) == []
