"""What tests of decoders share."""

from typing import Any

import pytest
import torch

from freehold.tuning import model
from tests.convert.torchmodels import write_model

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": 6}),
    "qwen 3": ("Qwen3", {"head_dim": 32}),
    "olmo 2": ("Olmo2", {}),
    "gemma 2": ("Gemma2", {"head_dim": 32, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}),
    "granite": ("Granite", {"logits_scaling": 2.5, "residual_multiplier": 0.5, "tie_word_embeddings": True}),
}


@pytest.fixture(params=CASES, scope="module")
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> model.Decoder:
    """One of each form of attention, on the processor."""
    folder = tmp_path_factory.mktemp("base")
    family, changes = CASES[request.param]
    write_model(folder, family, **changes)
    return model.load(folder, torch.device("cpu"), torch.float32, full=False)
