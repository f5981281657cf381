"""Tiny models of every family with random weights, made and run by transformers."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.convert.folders import write_tokenizer

SMALL: dict[str, Any] = {
    "vocab_size": 520,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def write_model(folder: Path, family: str, seed: int = 0, **changes: Any) -> None:
    """A folder as transformers saves it; `family` is the stem of the classes, such as "Qwen2"."""
    import torch
    import transformers

    config = getattr(transformers, f"{family}Config")(**SMALL | changes)
    model_class = family.removesuffix("Text") + "ForCausalLM"
    save(folder, getattr(transformers, model_class)(config), torch.Generator().manual_seed(seed))


def save(folder: Path, model: Any, generator: Any) -> None:
    """The model with other weights and a tokenizer beside it."""
    randomise(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_tokenizer(folder)


def randomise(model: Any, generator: Any) -> None:
    """Weights with a lively output, norms well off their first values, biases that show when they are dropped.

    llama.cpp reads GELU from a table in F16, which alone would move the logits by more than 1e-3: Gemma's feed-forward
    blocks add a twentieth of what others do.
    """
    import torch

    with torch.no_grad():
        for name, value in model.named_parameters():
            spread = 1.2 / value.shape[-1] ** 0.5 if value.dim() > 1 else 0.3
            noise = torch.randn(value.shape, generator=generator) * spread
            if "gemma" in model.config.model_type and "post_feedforward" in name:
                value.copy_(noise / 20 - 0.95)
            else:
                value.copy_(value + noise if "norm" in name else noise)


def logits(folder: Path, tokens: list[int]) -> np.ndarray:
    """Logits by transformers in float32, [tokens, vocabulary]."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()
