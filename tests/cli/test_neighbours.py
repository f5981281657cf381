"""`list --all` shows what other tools keep, and `run` runs it where it lies."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Freehold, assert_refused
from tests.store import neighbour_folders as make


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make.user(tmp_path, monkeypatch)


@pytest.fixture
def ollama(user: Path, gguf: Path) -> Path:
    """A model of Ollama's and one that cannot be used."""
    root = user / ".ollama" / "models"
    make.ollama(root, gguf.read_bytes())
    make.ollama(root, gguf.read_bytes(), "registry.ollama.ai/library/cloud/1").write_text("{")
    return root


def test_list_all(inside: Freehold, tiny: str, ollama: Path) -> None:
    done = inside("list", "--all")
    rows = {row.split()[0]: row.split() for row in done.stdout.splitlines()}
    assert rows["NAME"][-1] == "TOOL"
    assert rows["tiny"][-1] == "freehold"
    assert rows["ollama::tiny:1b"][1:6] == ["496", "kB", "F32", "121.7K", "1024"]
    assert "ollama::cloud:1" not in rows
    assert "ollama::cloud:1 cannot be used: 1 is not in the form" in done.stderr
    assert "ollama" not in inside("list").stdout


def test_list_all_as_json(inside: Freehold, tiny: str, ollama: Path) -> None:
    found = {each["name"]: each for each in json.loads(inside("list", "--all", "--json").stdout)}
    assert found["tiny"]["tool"] == "freehold"
    assert found["ollama::tiny:1b"]["digest"].startswith("sha256:")
    assert found["ollama::tiny:1b"]["problem"] == ""
    assert found["ollama::cloud:1"]["problem"]


def test_a_file_that_is_no_model_is_said_to_be_none(inside: Freehold, user: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    make.lmstudio(user / ".lmstudio", tmp_path / "bad.gguf")
    assert "starts with b'not '" in inside("list", "--all").stderr


def test_run_where_it_lies(inside: Freehold, ollama: Path, home: Path) -> None:
    done = inside("run", "ollama::tiny:1b", "Where is my order?", "--max-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "ollama::tiny:1b"
    (model,) = (path for path in (ollama / "blobs").iterdir() if path.stat().st_size > 100_000)
    assert not list((home / "store" / "blobs").rglob(model.name.removeprefix("sha256-"))), "it was not copied"
    assert "ollama" not in inside("list").stdout


def test_what_ollama_has_beside_it_applies(inside: Freehold, user: Path, gguf: Path) -> None:
    root = user / ".ollama" / "models"
    path = "registry.ollama.ai/library/short/1"
    make.ollama(root, gguf.read_bytes(), path, layers=[make.layer(root, "params", b'{"num_predict": 3}')])
    done = inside("run", "ollama::short", "Where is my order?", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 3
    make.ollama(root, gguf.read_bytes(), path, layers=[make.layer(root, "params", b'{"num_predict": 5}')])
    done = inside("run", "ollama::short", "Where is my order?", "--json")
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 5


def test_show_where_it_lies(inside: Freehold, ollama: Path) -> None:
    done = inside("show", "ollama::tiny")
    assert done.returncode == 0
    assert done.stdout.startswith("ollama::tiny:1b\n")
    assert "1024 tokens" in done.stdout
    assert "conversations at a time" in done.stdout
    shown = json.loads(inside("show", "ollama::tiny", "--json").stdout)
    assert shown["outlook"]["contexts"][0]["fits"] is True
    assert_refused(inside("show", "ollama::cloud:1"), "not in the form")


def test_run_refuses_in_one_line(inside: Freehold, ollama: Path) -> None:
    assert_refused(inside("run", "ollama::cloud:1", "x"), "cannot be used", "not in the form")
    assert_refused(inside("run", "ollama::nothing", "x"), "no model", "ollama::tiny:1b")
    assert_refused(inside("run", "nobody::x", "x"), "no tool called")


def test_adopt_and_link(inside: Freehold, user: Path, ollama: Path, gguf: Path) -> None:
    planned = inside("adopt", "ollama::tiny", "--dry-run")
    assert planned.stdout == "would adopt ollama::tiny:1b as tiny:1b: 496 kB, shares its file\n"
    assert "tiny:1b" not in inside("list").stdout
    assert inside("adopt", "tiny", "--from", "ollama", "--as", "mine").returncode == 0
    assert json.loads(inside("show", "mine", "--json").stdout)["manifest"]["lineage"]["source"] == "ollama::tiny:1b"
    done = inside("link", "mine", "--to", "lmstudio")
    assert done.stdout.startswith(f"linked {user}/.lmstudio/models/freehold/mine/")
    assert "lmstudio::freehold/mine/" in inside("list", "--all").stdout
    removed = json.loads(inside("link", "mine", "--to", "lmstudio", "--remove", "--json").stdout)
    assert len(removed["removed"]) == 1
    assert "lmstudio::" not in inside("list", "--all").stdout


def test_adopt_all_says_what_could_not_be_taken(inside: Freehold, ollama: Path) -> None:
    done = inside("adopt", "--all", "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert [each["name"] for each in said["adopted"]] == ["tiny:1b"]
    assert [each["source"] for each in said["refused"]] == ["ollama::cloud:1"]
    assert_refused(inside("adopt"), "say what to adopt")
    assert_refused(inside("adopt", "ollama::cloud:1"), "not in the form")
    assert_refused(inside("link", "tiny:1b", "--to", "nobody"), "no tool called 'nobody'")
