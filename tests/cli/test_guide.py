"""The commands of the user guide about other tools and about mending, run in order as they stand there."""

import json
import shlex
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from tests.cli.conftest import Freehold
from tests.store import neighbour_folders as make

DOCS = Path(__file__).parents[2] / "docs"


def commands(page: str) -> list[tuple[list[str], bool]]:
    """The lines of a page that run freehold, and whether they may fail."""
    lines = [line.strip() for line in (DOCS / page).read_text("utf-8").splitlines() if line.startswith("    freehold ")]
    return [(shlex.split(line.removesuffix("|| true"), comments=True)[1:], line.endswith("|| true")) for line in lines]


def test_the_page_about_other_tools(
    inside: Freehold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gguf: Path
) -> None:
    user = make.user(tmp_path, monkeypatch)
    make.ollama(user / ".ollama" / "models", gguf.read_bytes())
    make.lmstudio(user / ".lmstudio", gguf)
    said = ""
    for command, may_fail in commands("neighbours.md"):
        done = inside(*command)
        assert may_fail or done.returncode == 0, f"{command}: {done.stderr}"
        said += done.stdout
    for expected in (
        "adopted ollama::tiny:1b as tiny:1b: 496 kB, shares its file",
        "lmstudio::freehold/tiny-1b/",
        "hf::tiny/",
        "removed ",
    ):
        assert expected in said
    assert json.loads(inside("list", "--all", "--json").stdout)


def test_mending_as_the_page_about_the_store_says(
    inside: Freehold, tiny: str, gguf: Path, home: Path, tmp_path: Path
) -> None:
    (command,) = (command for command, _ in commands("store.md") if "--repair" in command)
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "any-name").write_bytes(gguf.read_bytes())
    digest = Digest.of_file(gguf)
    blob = home / "store" / "blobs" / "sha256" / digest.hex[:2] / digest.hex
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.write(b"GGUX")
    assert inside("fsck").returncode == 1
    done = inside(*command)
    assert (done.returncode, "mended" in done.stdout) == (0, True), done.stderr
    assert inside("fsck", "--deep").returncode == 0
