"""A converted model that the tests of this folder share; they never change it."""

from pathlib import Path

import pytest

from freehold.convert import to_gguf
from tests.convert.folders import write_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny tied Llama folder in F32."""
    path = tmp_path_factory.mktemp("model") / "tiny"
    write_folder(path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The same folder, free to be changed."""
    path = tmp_path / "model"
    write_folder(path)
    return path


@pytest.fixture(scope="session")
def wide_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An F32 GGUF file with rows of 256 and 512 weights, which every quantisation type can hold."""
    path = tmp_path_factory.mktemp("wide")
    write_folder(
        path / "folder",
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        head_dim=32,
        num_key_value_heads=2,
    )
    to_gguf(path / "folder", path / "wide.gguf", dtype="f32")
    return path / "wide.gguf"
