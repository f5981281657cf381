"""create, cp, show --modelfile: docs/modelfile.md, and what is refused."""

import json
import re
import shlex
from pathlib import Path

from tests.cli.conftest import Freehold, assert_refused

PAGE = Path(__file__).parents[2] / "docs" / "modelfile.md"


def test_the_page(inside: Freehold, tmp_path: Path) -> None:
    """The page's Modelfile and commands, as they stand there."""
    text = PAGE.read_text("utf-8")
    example = re.search(r"```\n(FROM .*?)```", text, re.DOTALL)
    assert example is not None
    (tmp_path / "Modelfile").write_text(example[1])
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^    freehold (.*)$", text, re.MULTILINE)]
    assert len(commands) >= 6
    for words in commands:
        done = inside(*words, *(["--max-tokens", "3"] if words[0] == "run" else []))
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "desk" / "system.txt").read_text() == "You answer for a bicycle shop, in one sentence."


def test_create_says_what_it_made(freehold: Freehold, inside: Freehold, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM tiny\nSYSTEM Be kind\nPARAMETER num_thread 8\nPARAMETER temperature 0\n")
    assert inside("create", "desk", "--dry-run").stdout == "would make desk from tiny\n"
    assert_refused(inside("show", "desk"), "no model named 'desk'")
    done = freehold("create", "desk")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("desk: 496 kB, ")
    assert "left out, since they are about another machine: num_thread" in done.stderr
    shown = inside("show", "desk", "--modelfile").stdout
    assert shown.splitlines()[1:] == ["FROM ./tiny.gguf", "PARAMETER temperature 0", "SYSTEM Be kind"]
    made = json.loads(inside("create", "desk", "--json").stdout)
    assert made["digest"] == json.loads(inside("show", "desk", "--json").stdout)["digest"]
    assert inside("run", "desk", "hello", "--max-tokens", "2").returncode == 0


def test_mistakes(inside: Freehold, tiny: str, tmp_path: Path) -> None:
    assert_refused(inside("create", "x"), "no such file: Modelfile")
    for text, said in (
        ("FROM tiny\nSYSTEN x", "m:2: unknown command 'SYSTEN'. Did you mean SYSTEM?"),
        ("FROM nope", "no model named 'nope'"),
        ("FROM tiny\nTEMPLATE {{ .Tools }}", "line 2: the TEMPLATE is not of a chat format"),
    ):
        (tmp_path / "m").write_text(text)
        assert_refused(inside("create", "x", "-f", "m"), said)
        assert_refused(inside("create", "x", "-f", "m", "--dry-run"), said)
    assert "x" not in inside("list").stdout.split()


def test_cp(inside: Freehold, tiny: str, tmp_path: Path, gguf: Path) -> None:
    assert inside("cp", "tiny", "org/tiny:v1", "--dry-run").stdout == "would copy tiny to org/tiny:v1\n"
    assert_refused(inside("show", "org/tiny:v1"), "no model named")
    assert inside("cp", "tiny", "org/tiny:v1").stdout == "copied tiny to org/tiny:v1\n"
    digests = {json.loads(inside("show", name, "--json").stdout)["digest"] for name in ("tiny", "org/tiny:v1")}
    assert len(digests) == 1
    assert inside("cp", "tiny", "./out").returncode == 0
    assert (tmp_path / "out" / "tiny.gguf").read_bytes() == gguf.read_bytes()
    assert_refused(inside("cp", "tiny", "./out"), "out exists")
    assert_refused(inside("cp", "nope", "x"), "no model named 'nope'")
    assert_refused(inside("cp", "tiny", "a b"), "not a model name")
