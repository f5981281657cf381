"""The converted model computes what transformers computes from the same folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freehold.convert import quantize, to_gguf
from freehold.formats.gguf import read_header
from tests.convert.folders import change_json, write_folder
from tests.convert.libllama import Llama
from tests.convert.torchmodels import logits

torch = pytest.importorskip("torch")

CASES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "all heads have keys": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 32},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "rope base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "rope linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "rope llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


@pytest.mark.parametrize("case", CASES)
def test_log_probabilities_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", **CASES[case])
    to_gguf(tmp_path / "model", tmp_path / "model.gguf", dtype="f32")
    tokens = np.random.default_rng(3).integers(0, 512, 96).tolist()
    expected = log_softmax(logits(tmp_path / "model", tokens))
    with Llama(tmp_path / "model.gguf") as llama:
        found = log_softmax(llama.logits(tokens))
    assert expected.std() > 0.5, "a flat distribution would prove nothing"
    assert np.abs(found - expected).max() < 1e-3


def test_the_older_spelling_of_a_config_gives_the_same_file(tmp_path: Path) -> None:
    rope = CASES["rope llama3"]["rope_parameters"]
    write_folder(tmp_path / "new", rope_parameters=rope)
    write_folder(tmp_path / "old")
    older = {key: value for key, value in rope.items() if key not in ("rope_theta", "rope_type")} | {"type": "llama3"}
    change_json(
        tmp_path / "old" / "config.json",
        rope_parameters=None,
        dtype=None,
        torch_dtype="float32",
        rope_theta=10000.0,
        rope_scaling=older,
    )
    to_gguf(tmp_path / "new", tmp_path / "new.gguf")
    to_gguf(tmp_path / "old", tmp_path / "old.gguf")
    assert (tmp_path / "new.gguf").read_bytes() == (tmp_path / "old.gguf").read_bytes()
    names = [tensor.name for tensor in read_header(tmp_path / "old.gguf").tensors]
    assert "rope_freqs.weight" in names


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_half_precision_weights_are_carried_over_exactly(dtype: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", dtype=dtype)
    to_gguf(tmp_path / "model", tmp_path / "half.gguf")
    assert read_header(tmp_path / "half.gguf").quantization == dtype
    # llama.cpp rounds activations to the format of the weights: only F32 shows whether the weights are the same.
    quantize(tmp_path / "half.gguf", tmp_path / "whole.gguf", "F32")
    tokens = list(range(100, 140))
    expected = log_softmax(logits(tmp_path / "model", tokens))
    with Llama(tmp_path / "whole.gguf") as llama:
        assert np.abs(log_softmax(llama.logits(tokens)) - expected).max() < 1e-3
