"""Every family: llama.cpp computes from the converted file what transformers computes from the folder."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freehold.convert import to_gguf
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp.scorer import scorer
from tests.convert.libllama import Llama
from tests.convert.torchmodels import logits, write_model

pytest.importorskip("torch")

TOKENS = np.random.default_rng(3).integers(0, 512, 96).tolist()
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0 + 0.1 * i for i in range(6)],
    "long_factor": [1.5 + 0.5 * i for i in range(6)],
    "original_max_position_embeddings": 64,
    "partial_rotary_factor": 0.75,
}
WINDOWS = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA: dict[str, Any] = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen 2.5": ("Qwen2", {}),
    "qwen 2.5 tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen 2.5 yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen 2.5 yarn attention": ("Qwen2", {"rope_parameters": YARN | {"attention_factor": 1.5, "beta_fast": 16}}),
    "qwen 3": ("Qwen3", {"head_dim": 32}),
    "qwen 3 tied": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "smollm 3": ("SmolLM3", {"num_hidden_layers": 9, "rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}),
    "smollm 3 tied": ("SmolLM3", {"num_hidden_layers": 4, "tie_word_embeddings": True}),
    "olmo 2": ("Olmo2", {}),
    "olmo 2 tied": ("Olmo2", {"tie_word_embeddings": True}),
    "olmo 3": ("Olmo3", {"sliding_window": 16, "num_hidden_layers": 5}),
    "olmo 3 windows": ("Olmo3", {"sliding_window": 24, "layer_types": WINDOWS}),
    "olmo 3 yarn": (
        "Olmo3",
        {
            "sliding_window": 16,
            "layer_types": WINDOWS,
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.4,
            "residual_multiplier": 0.6,
            "logits_scaling": 0.5,
        },
    ),
    "granite tied": ("Granite", {"tie_word_embeddings": True, "logits_scaling": 2.0}),
    "phi 3": ("Phi3", {}),
    "phi 3 long": ("Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 64}),
    "phi 3 short": (
        "Phi3",
        {
            "rope_parameters": LONG | {"original_max_position_embeddings": 256},
            "original_max_position_embeddings": 256,
            "max_position_embeddings": 1024,
        },
    ),
    "phi 4 mini": ("Phi3", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "gemma 2": ("Gemma2", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma 2 27B": ("Gemma2", {**GEMMA, "num_hidden_layers": 46, "query_pre_attn_scalar": 16}),
    "gemma 3": (
        "Gemma3Text",
        {
            **GEMMA,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gemma 3 untied": ("Gemma3Text", {**GEMMA, "layer_types": WINDOWS, "final_logit_softcapping": 3.0}),
}
TIED_ALWAYS = {"gemma 2": True, "gemma 2 27B": True, "gemma 3": True}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


async def score(path: Path) -> list[float]:
    async with scorer(ModelFile(path, "model"), context_length=128, threads=1) as one:
        return await one.score(TOKENS)


@pytest.mark.parametrize("case", CASES)
def test_log_probabilities_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    family, changes = CASES[case]
    write_model(tmp_path / "model", family, **{"tie_word_embeddings": TIED_ALWAYS.get(case, False)} | changes)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf", dtype="f32")
    expected = logits(tmp_path / "model", TOKENS)
    with Llama(tmp_path / "model.gguf") as llama:
        found = llama.logits(TOKENS)
    assert log_softmax(expected).std() > 0.3, "a flat distribution would prove nothing"
    assert np.abs(found - expected).max() < 1e-3
    scored = asyncio.run(score(tmp_path / "model.gguf"))
    wanted = np.take_along_axis(log_softmax(expected)[:-1], np.array(TOKENS)[1:, None], 1)[:, 0]
    assert np.abs(np.array(scored) - wanted).max() < 1e-3, "what the evaluations of the product read"
