"""freehold convert: a folder or a stored model becomes a GGUF file or another model of the store."""

import json
from pathlib import Path

import pytest

from freehold.convert import borrowed
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.formats.gguf import read_header
from freehold.store import Store
from tests.cli.conftest import Freehold, assert_refused
from tests.convert import spm
from tests.convert.folders import write_folder
from tests.convert.test_borrowed import TOOLS
from tests.recipes.kit import write_adapter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_becomes_a_file(freehold: Freehold, folder: Path, tmp_path: Path) -> None:
    planned = freehold("convert", "./model", "out.gguf", "--to", "f32", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("would write out.gguf: llama F32, ")
    assert not (tmp_path / "out.gguf").exists()
    done = freehold("convert", "./model", "out.gguf", "--to", "f32", "--json")
    said = json.loads(done.stdout)
    assert said["size"] == (tmp_path / "out.gguf").stat().st_size
    assert said["tensors"] == len(read_header(tmp_path / "out.gguf").tensors)


def test_a_folder_becomes_a_model_of_the_store(inside: Freehold, folder: Path, home: Path) -> None:
    done = inside("convert", "./model", "--as", "mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote mine: llama F16")
    with Store.open(load({"home": home}).store) as store:
        assert store.get(Name.parse("mine")).details.quantization == "F16"
        assert not list(store.folder.glob("rooms/*"))


def test_a_stored_model_is_converted_and_its_lineage_kept(inside: Freehold, folder: Path, home: Path) -> None:
    assert inside("pull", "./model", "--as", "weights").returncode == 0
    assert inside("convert", "weights", "--as", "weights:f32", "--to", "f32").returncode == 0
    with Store.open(load({"home": home}).store) as store:
        made = store.get(Name.parse("weights:f32"))
        assert made.lineage.base == store.resolve(Name.parse("weights"))
        assert made.details.quantization == "F32"


def test_an_adapter_is_converted_for_a_folder_a_file_or_a_name(inside: Freehold, tmp_path: Path) -> None:
    write_folder(tmp_path / "base", num_hidden_layers=1)
    write_adapter(tmp_path / "adapter", seed=5)
    assert inside("convert", "./base", "base.gguf").returncode == 0
    assert inside("pull", "./base.gguf", "--as", "small").returncode == 0
    for number, base in enumerate(("./base", "./base.gguf", "base.gguf", "small")):
        done = inside("convert", "./adapter", f"{number}.gguf", "--base", base)
        assert done.returncode == 0, done.stderr
    assert len({(tmp_path / f"{number}.gguf").read_bytes() for number in range(4)}) == 1
    assert_refused(inside("convert", "./base.gguf", "out.gguf"), "no folder")


def test_what_cannot_be_done_is_said_in_one_line(inside: Freehold, folder: Path, tmp_path: Path) -> None:
    assert_refused(inside("convert", "./model"), "nowhere")
    assert_refused(inside("convert", "./model", "out.gguf", "--as", "mine"), "twice")
    assert_refused(inside("convert", "./model", "--as", "mine", "--base", "./model"), "cannot be run alone")
    assert_refused(inside("convert", "./gone", "out.gguf"), "no folder")
    assert_refused(inside("convert", "gone", "out.gguf"), "gone")
    (folder / "tokenizer.json").unlink()
    assert_refused(inside("convert", "./model", "out.gguf"), "tokenizer")
    assert not (tmp_path / "out.gguf").exists()


def test_a_family_that_llama_cpp_converts(inside: Freehold, home: Path, tmp_path: Path) -> None:
    minicpm = spm.minicpm(tmp_path / "minicpm")
    assert_refused(inside("convert", str(minicpm), "o.gguf"), "MiniCPMForCausalLM", "pip download")
    assert_refused(inside("convert", str(minicpm), "o.gguf", "--dry-run"), "pip download")
    if not (TOOLS / borrowed.ARCHIVE).exists():
        return
    with Store.open(home / "store") as store:
        store.tools.mkdir()
        (store.tools / borrowed.ARCHIVE).symlink_to(TOOLS / borrowed.ARCHIVE)
    assert "would write o.gguf" in inside("convert", str(minicpm), "o.gguf", "--dry-run").stdout
    done = inside("convert", str(minicpm), "--as", "cpm", "--to", "f32", "--json")
    assert json.loads(done.stdout)["architecture"] == "minicpm", done.stderr
    assert json.loads(inside("list", "--json").stdout)[0]["name"] == "cpm"
    assert inside("fsck").returncode == 0
