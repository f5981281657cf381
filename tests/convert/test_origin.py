"""GGUF files read back: the configuration they came from, and what cannot be one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from freehold.convert import adapter_to_gguf, origin, quantize, to_gguf
from freehold.convert.folder import plan
from freehold.core.errors import BadModelFile, FreeholdError, NotFound, Unsupported
from freehold.formats.gguf import read_header
from tests.adapters import write_adapter as write_gguf_adapter
from tests.convert.folders import write_folder
from tests.recipes.kit import write_adapter
from tests.tiny import write_gguf

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}


def described(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"attention_bias": True, "mlp_bias": True},
        {"head_dim": 32},
        {"rope_parameters": YARN},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 500000.0, "factor": 2.0}},
    ],
)
def test_a_llama_is_read_back_as_it_was(changes: dict[str, Any], tmp_path: Path) -> None:
    write_folder(tmp_path / "model", **changes)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    found, before = origin.read(tmp_path / "model.gguf"), described(tmp_path / "model")
    planned, _, _ = plan(tmp_path / "model")
    assert [(t.name, t.source, t.shape) for t in found.plan.tensors] == [
        (t.name, t.source, t.shape) for t in planned.tensors
    ]
    for key in found.config.keys() - {"rope_parameters"}:
        assert found.config[key] == before[key], key
    rope = found.config["rope_parameters"]
    assert {key: rope[key] for key in before["rope_parameters"]} == before["rope_parameters"]


def test_quantising_changes_nothing_of_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", hidden_size=256, head_dim=64, intermediate_size=512)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    quantize(tmp_path / "model.gguf", tmp_path / "small.gguf", "Q4_K_M", threads=1)
    first, second = (origin.read(tmp_path / name) for name in ("model.gguf", "small.gguf"))
    assert first.config == second.config


def test_an_adapter_is_converted_by_the_file_as_by_the_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", num_hidden_layers=1)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    write_adapter(tmp_path / "adapter", seed=3)
    adapter_to_gguf(tmp_path / "adapter", tmp_path / "model", tmp_path / "a.gguf")
    adapter_to_gguf(tmp_path / "adapter", tmp_path / "model.gguf", tmp_path / "b.gguf")
    (tmp_path / "holder").mkdir()
    (tmp_path / "holder" / "x.gguf").symlink_to(tmp_path / "model.gguf")
    adapter_to_gguf(tmp_path / "adapter", tmp_path / "holder", tmp_path / "c.gguf")
    assert len({(tmp_path / f"{name}.gguf").read_bytes() for name in "abc"}) == 1


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", num_hidden_layers=1, hidden_size=128, head_dim=32)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    write_adapter(tmp_path / "adapter", seed=3)
    with pytest.raises(BadModelFile, match="has shape"):
        adapter_to_gguf(tmp_path / "adapter", tmp_path / "model.gguf", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_what_a_path_holds(tmp_path: Path) -> None:
    write_gguf(tmp_path / "one.gguf")
    assert origin.gguf_in(tmp_path) == tmp_path / "one.gguf"
    assert origin.gguf_in(tmp_path / "one.gguf") == tmp_path / "one.gguf"
    assert origin.gguf_in(tmp_path / "none") is None
    (tmp_path / "two.gguf").write_bytes(b"")
    assert origin.gguf_in(tmp_path) is None
    (tmp_path / "two.gguf").unlink()
    (tmp_path / "config.json").write_text("{}")
    assert origin.gguf_in(tmp_path) is None


def write(path: Path, change: Callable[[gguf.GGUFWriter], None] = lambda writer: None, **keys: Any) -> Path:
    """A model of one layer and hidden size 8, with these keys changed; None leaves one out."""
    numbers = {
        "embedding_length": 8, "block_count": 1, "feed_forward_length": 16, "attention.head_count": 2,
        "context_length": 64, "attention.layer_norm_rms_epsilon": 1e-5, **keys,
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, numbers.pop("architecture", "llama"))
    for key, value in numbers.items():
        full = key if key.startswith("general.") else f"{writer.arch}.{key}"
        match value:
            case None:
                pass
            case int():
                writer.add_uint32(full, value)
            case float():
                writer.add_float32(full, value)
            case str():
                writer.add_string(full, value)
            case list():
                writer.add_array(full, value)
    shapes = {"token_embd.weight": (32, 8), "output_norm.weight": (8,)}
    shapes |= {f"blk.0.{name}.weight": (8, 8) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {"blk.0.ffn_gate.weight": (16, 8), "blk.0.ffn_up.weight": (16, 8), "blk.0.ffn_down.weight": (8, 16)}
    shapes |= {"blk.0.attn_norm.weight": (8,), "blk.0.ffn_norm.weight": (8,)}
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_least_that_a_file_may_say(tmp_path: Path) -> None:
    found = origin.read(write(tmp_path / "least.gguf"))
    config = found.config
    assert (config["vocab_size"], config["head_dim"], config["num_key_value_heads"]) == (32, 4, 2)
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert config["tie_word_embeddings"]
    assert config["rms_norm_eps"] == 1e-5
    assert not config["attention_bias"]


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"architecture": "mamba"}, Unsupported, "architecture mamba"),
        ({"architecture": "gptneox"}, Unsupported, "llama"),
        ({"embedding_length": None}, BadModelFile, "llama.embedding_length is missing"),
        ({"embedding_length": 16}, BadModelFile, "has shape"),
        ({"embedding_length": "8"}, BadModelFile, "llama.embedding_length"),
        ({"block_count": 2}, BadModelFile, "blk.1"),
        ({"block_count": 0}, BadModelFile, "llama.block_count is 0"),
        ({"feed_forward_length": [16, 16]}, BadModelFile, "feed_forward_length"),
        ({"attention.head_count": 3}, FreeholdError, "head"),
        ({"attention.head_count_kv": [2]}, BadModelFile, "head_count_kv"),
        ({"attention.layer_norm_rms_epsilon": float("nan")}, BadModelFile, "epsilon"),
        ({"attention.layer_norm_rms_epsilon": -1.0}, BadModelFile, "epsilon"),
        ({"attention.value_length": 8}, Unsupported, "keys and values differ"),
        ({"rope.dimension_count": 2}, Unsupported, "partial rotary"),
        ({"rope.scaling.type": "spiral", "rope.scaling.factor": 2.0}, Unsupported, "spiral"),
        ({"rope.scaling.type": 7}, BadModelFile, "rope.scaling.type is not a string"),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0}, BadModelFile, "original_context_length is missing"),
        ({"general.type": "adapter"}, BadModelFile, "of type adapter"),
        ({"general.alignment": 1}, Unsupported, "aligns"),
    ],
)
def test_headers_that_cannot_be_read_back_are_refused(
    keys: dict[str, Any], error: type[FreeholdError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        origin.read(write(tmp_path / "wrong.gguf", **keys))
    assert words in caught.value.line()
    assert "wrong.gguf" in caught.value.line() or "architecture" in caught.value.line()
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "shape", "error", "words"),
    [
        ("blk.0.attn_q.scale", (1,), Unsupported, "attn_q.scale"),
        ("blk.0.ffn_gate_inp.weight", (4, 8), Unsupported, "ffn_gate_inp"),
        ("output.weight", (31, 8), BadModelFile, "output.weight has shape"),
        ("rope_freqs.weight", (3,), BadModelFile, "rope_freqs.weight has shape"),
        ("blk.0.attn_q.bias", (8,), BadModelFile, "attn_k.bias is missing"),
    ],
)
def test_tensors_that_a_model_has_not_are_refused(
    name: str, shape: tuple[int, ...], error: type[FreeholdError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        origin.read(write(tmp_path / "more.gguf", lambda writer: writer.add_tensor(name, np.zeros(shape, np.float32))))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="adapter"):
        origin.read(write_gguf_adapter(tmp_path / "adapter.gguf"))
    write_gguf(tmp_path / "split.gguf", split=8)
    (first, *_) = sorted(tmp_path.glob("split-*.gguf"))
    with pytest.raises(Unsupported, match="one part of a split model"):
        origin.read(first)
    with pytest.raises(NotFound):
        origin.read(tmp_path / "none.gguf")


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf").read_bytes()
    end = read_header(tmp_path / "whole.gguf").data_offset
    cut = tmp_path / "cut.gguf"
    for size in [*range(0, end, 97), end, end + 100, len(whole) - 64]:
        cut.write_bytes(whole[:size])
        with pytest.raises(BadModelFile):
            origin.read(cut)
