"""freehold bundle: from one home to another, and what goes wrong on the way."""

import json
import os
from pathlib import Path

import pytest

from freehold.cli._sizes import parse_size
from freehold.core.errors import BadInput
from tests.cli.conftest import Freehold, assert_refused


def test_from_home_to_home(freehold: Freehold, inside: Freehold, tiny: str, tmp_path: Path) -> None:
    done = freehold("bundle", "export", "tiny", "out.fhb")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote out.fhb\n"
    assert "exporting: 100 %" in done.stderr
    assert freehold("bundle", "verify", "out.fhb", "-q").stdout.endswith("out.fhb is whole: 2 files, 501 kB\n")
    other = str(tmp_path / "other")
    assert "would import tiny" in inside("bundle", "import", "out.fhb", "--dry-run", "--home", other).stdout
    assert "tiny " not in inside("list", "--home", other).stdout
    brought = json.loads(inside("bundle", "import", "out.fhb", "--json", "--home", other).stdout)
    assert [model["name"] for model in brought["models"]] == ["tiny"]
    assert inside("fsck", "--deep", "--home", other).returncode == 0
    assert "imported tiny" in inside("bundle", "import", "out.fhb", "--home", other).stdout


def test_pull_of_a_bundle_with_one_model(inside: Freehold, tiny: str, tmp_path: Path) -> None:
    assert inside("bundle", "export", "tiny", "out.fhb").returncode == 0
    other = str(tmp_path / "other")
    assert "the bundle's model" in inside("pull", "out.fhb", "--dry-run", "--home", other).stdout
    assert inside("pull", "out.fhb", "--home", other).stdout.startswith("tiny: 496 kB F32")
    done = inside("pull", "./out.fhb", "--as", "org/mine:1", "--home", other, "--json")
    assert json.loads(done.stdout)["name"] == "org/mine:1"
    assert json.loads(inside("list", "--json", "--home", other).stdout)[0]["name"] == "org/mine:1"
    assert inside("fsck", "--deep", "--home", other).returncode == 0
    assert inside("cp", "tiny", "second").returncode == 0
    assert inside("bundle", "export", "tiny", "second", "two.fhb").returncode == 0
    assert_refused(inside("pull", "two.fhb"), "holds 2 models", "freehold bundle import two.fhb")
    assert_refused(inside("pull", "none.fhb"), "none.fhb")


def test_in_parts_with_wheels(inside: Freehold, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "big-1.0-py3-none-any.whl").write_bytes(os.urandom(3 << 20))
    assert inside("bundle", "export", "tiny", "out.fhb", "--split", "1MiB", "--wheels", "wheels").returncode == 0
    assert len(list(tmp_path.glob("out.fhb.00?"))) == 4
    shown = json.loads(inside("bundle", "verify", "out.fhb.002", "--json").stdout)
    assert shown["wheels"] == ["big-1.0-py3-none-any.whl"]
    done = inside("bundle", "import", "out.fhb", "--home", str(tmp_path / "other"))
    assert "1 wheels stay in the bundle" in done.stderr
    (tmp_path / "out.fhb.003").unlink()
    assert_refused(inside("bundle", "verify", "out.fhb", "-q"), "out.fhb.003: this part is missing")


def test_dry_run_writes_nothing(inside: Freehold, tiny: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert inside("bundle", "export", "tiny", "out.fhb", "--dry-run").stdout == "would write out.fhb\n"
    assert json.loads(inside("bundle", "export", "tiny", "o", "--dry-run", "--json").stdout)["size"] > 400_000
    assert sorted(tmp_path.iterdir()) == before


def test_wrong_input(inside: Freehold, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(inside("bundle", "export", "tiny"), "no file to write")
    assert_refused(inside("bundle", "export", "nope", "o.fhb"), "no model named 'nope'")
    assert_refused(inside("bundle", "export", "tiny", "o.fhb", "--split", "big"), "not a size")
    assert_refused(inside("bundle", "export", "tiny", "o.fhb", "--split", "5"), "too small")
    assert_refused(inside("bundle", "export", "tiny", "o.fhb", "--wheels", "none"), "no folder none")
    (tmp_path / "empty").mkdir()
    assert_refused(inside("bundle", "export", "tiny", "o.fhb", "--wheels", "empty"), "no wheels")
    assert_refused(inside("bundle", "import", "none.fhb"), "no such file")
    (tmp_path / "junk.fhb").write_bytes(b"junk" * 1000)
    for verb in ("import", "verify"):
        assert_refused(inside("bundle", verb, "junk.fhb"), "junk.fhb", "not a bundle")
    monkeypatch.setenv("FREEHOLD_OFFLINE", "1")
    assert_refused(inside("bundle", "export", "tiny", "o.fhb", "--with-wheels"), "--wheels FOLDER")
    assert not list(tmp_path.glob("o.fhb*"))


def test_a_wheel_keeps_one_platform_in_its_name() -> None:
    from freehold.cli._wheels import short

    many = "a_b-3.5.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl"
    assert short(many) == "a_b-3.5.2-cp311-cp311-manylinux2014_x86_64.whl"
    assert short("a-1.0-py3-none-any.whl") == "a-1.0-py3-none-any.whl"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheels_install_freehold_without_a_network(freehold: Freehold, tiny: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    done = freehold("bundle", "export", "tiny", "out.fhb", "--with-wheels", "-q")
    if done.returncode == 1 and "pip could not fetch" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    subprocess.run(["tar", "-xf", "out.fhb", "wheels"], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "venv", "fresh"], cwd=tmp_path, check=True)
    install = ["fresh/bin/python", "-m", "pip", "install", "-q", "--no-index", "--find-links", "wheels", "freehold"]
    subprocess.run(install, cwd=tmp_path, check=True)
    brought = ["fresh/bin/freehold", "bundle", "import", "out.fhb", "--home", "other"]
    assert "imported tiny" in subprocess.run(brought, cwd=tmp_path, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("text", "size"), [("5", 5), ("4GB", 4 * 10**9), ("4GiB", 4 << 30), ("1.5m", 1_500_000), ("2 TB", 2 * 10**12)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4XB", "4iB", "1e9", "9" * 40])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadInput, match="not a size"):
        parse_size(text)
