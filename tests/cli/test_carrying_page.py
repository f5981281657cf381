"""The commands of docs/carrying.md work as they stand there, from an empty home to a second machine."""

import re
import shlex
from pathlib import Path

from tests.cli.conftest import Freehold

PAGE = Path(__file__).parents[2] / "docs" / "carrying.md"


def commands() -> list[list[str]]:
    """The page's Freehold commands, without those that stand for a name of the reader's or need a network."""
    lines = re.findall(r"^    freehold (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if not {"NAME", "out.fhb"} & set(words)]


def test_the_page(inside: Freehold, home: Path, tmp_path: Path) -> None:
    second = False
    assert len(commands()) >= 10
    for words in commands():
        second |= words[:2] == ["bundle", "import"]
        done = inside(*words, *(["--home", str(tmp_path / "second")] if second else []))
        assert done.returncode == 0, (words, done.stderr)
    assert inside("verify", "starter", "--key", "me.pub", "--home", str(tmp_path / "second")).returncode == 0
