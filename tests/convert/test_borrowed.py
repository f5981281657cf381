"""Families left to llama.cpp's own converter: with its real archive where FREEHOLD_TEST_TOOLS names its folder."""

import os
import tarfile
from pathlib import Path

import pytest

from freehold import convert
from freehold.convert import borrowed
from freehold.core.errors import Damaged, MissingExtra, Unsupported
from freehold.formats.gguf import read_header
from tests.convert import spm
from tests.convert.folders import change_json, write_folder
from tests.convert.libllama import Llama

TOOLS = Path(os.environ.get("FREEHOLD_TEST_TOOLS", "/nonexistent"))
with_archive = pytest.mark.skipif(
    not (TOOLS / borrowed.ARCHIVE).exists(), reason=f"FREEHOLD_TEST_TOOLS names no folder with {borrowed.ARCHIVE}"
)


@pytest.fixture
def minicpm(tmp_path: Path) -> Path:
    """A model of a family that only llama.cpp's converter knows, with code beside it that must not run."""
    folder = spm.minicpm(tmp_path / "minicpm")
    change_json(folder / "config.json", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    return folder


@with_archive
def test_another_family_is_converted_and_runs(minicpm: Path, tmp_path: Path) -> None:
    convert.to_gguf(minicpm, tmp_path / "out.gguf", dtype="f32", tools=TOOLS)
    assert read_header(tmp_path / "out.gguf").details().architecture == "minicpm"
    with Llama(tmp_path / "out.gguf") as model:
        assert len(model.greedy([1, 5, 9], 4)) == 4
    assert not (tmp_path / "ran").exists()


@with_archive
def test_what_the_converter_refuses_is_one_line(minicpm: Path, tmp_path: Path) -> None:
    change_json(minicpm / "config.json", architectures=["NobodysForCausalLM"])
    with pytest.raises(Unsupported, match="NobodysForCausalLM"):
        convert.to_gguf(minicpm, tmp_path / "out.gguf", tools=TOOLS)
    change_json(minicpm / "config.json", architectures=["MiniCPMForCausalLM"], hidden_size="wide")
    with pytest.raises(Unsupported, match="refuses it") as caught:
        convert.to_gguf(minicpm, tmp_path / "out.gguf", tools=TOOLS)
    assert "\n" not in caught.value.line()
    assert not list(tmp_path.glob("*.gguf*"))


def test_our_own_families_never_ask_for_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "m")
    assert not borrowed.needed(tmp_path / "m")
    convert.to_gguf(tmp_path / "m", tmp_path / "out.gguf", tools=tmp_path / "none")


def test_without_the_archive_the_error_says_how_to_get_it(minicpm: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="MiniCPMForCausalLM") as caught:
        convert.to_gguf(minicpm, tmp_path / "out.gguf", tools=tmp_path / "tools")
    assert caught.value.remedy == (
        "Get it: pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 -d " + str(tmp_path / "tools")
    )


def test_another_archive_is_refused_unopened(minicpm: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / borrowed.ARCHIVE, "w:gz") as made:
        made.add(minicpm / "evil.py", f"llama_cpp_python-{borrowed.VERSION}/vendor/llama.cpp/convert_hf_to_gguf.py")
    with pytest.raises(Damaged, match="not the archive of that version"):
        convert.to_gguf(minicpm, tmp_path / "out.gguf", tools=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_missing_package_is_named(minicpm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / borrowed.ARCHIVE).write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="needs torch"):
        convert.to_gguf(minicpm, tmp_path / "out.gguf", tools=tmp_path)
