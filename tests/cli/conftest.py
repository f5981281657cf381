"""The command as a user runs it: a process of its own, with a home of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freehold.cli import main
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.store import Store
from freehold.store.importing import import_gguf
from tests.tiny import write_gguf

Freehold = Callable[..., subprocess.CompletedProcess[str]]


def command(*args: str) -> list[str]:
    """The command line that runs Freehold."""
    return [sys.executable, "-W", "error", "-m", "freehold", *args]


@pytest.fixture
def freehold(home: Path, tmp_path: Path) -> Freehold:
    """Runs one command line; stdin is empty unless given as `input`."""

    def run(*args: str, env: dict[str, str] | None = None, **options: object) -> subprocess.CompletedProcess[str]:
        given = {"stdin": subprocess.DEVNULL} if "input" not in options else {}
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            command(*args),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=100,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "FREEHOLD_THREADS": "1", **(env or {})},
            **given,
            **options,
        )

    return run


@pytest.fixture
def inside(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Freehold]:
    """As `freehold`, but in this process: half a second less, for the many."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main.run(args)
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(args, code, shown.out, shown.err)

    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield run


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model file."""
    return write_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def tiny(home: Path, gguf: Path) -> str:
    """The name of a tiny model in the catalog."""
    with Store.open(load({}).store) as store:
        import_gguf(store, gguf, Name.parse("tiny"))
    return "tiny"


@pytest.fixture
def server(tiny: str, home: Path) -> Iterator[str]:
    """A running server with the tiny model; its base URL."""
    import json

    env = {**os.environ, "OMP_NUM_THREADS": "1", "FREEHOLD_THREADS": "1"}
    line = command("serve", "--port", "0", "--json")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            piece = process.stdout.readline()
            assert piece, process.stderr.read() if process.stderr else ""
            text += piece
        yield json.loads(text)["url"]
        process.terminate()
        process.wait(30)


def assert_refused(done: subprocess.CompletedProcess[str], *said: str, code: int = 2) -> None:
    """One line on stderr that says it, nothing on stdout, the exit code."""
    assert done.returncode == code, done.stderr + done.stdout
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for text in said:
        assert text in done.stderr
