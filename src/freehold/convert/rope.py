"""Rotary position settings as GGUF metadata, and Llama 3's frequency factors."""

import math

import numpy as np
from numpy.typing import NDArray

from freehold.convert.config import Config
from freehold.convert.plan import Metadata
from freehold.core.errors import Unsupported
from freehold.formats.reading import shown

DEFAULT_BASE = 10000.0


def rope_metadata(rope: Config, architecture: str) -> Metadata:
    """The base and, for linear scaling, its factor. Raises Unsupported for scalings that cannot be carried over."""
    metadata: Metadata = {f"{architecture}.rope.freq_base": rope.number("rope_theta", DEFAULT_BASE)}
    kind = rope.text("rope_type", "default").lower()
    if kind == "linear":
        metadata[f"{architecture}.rope.scaling.type"] = "linear"
        metadata[f"{architecture}.rope.scaling.factor"] = rope.number("factor")
    elif kind not in ("default", "llama3"):
        raise Unsupported(f"rope scaling {shown(kind)} is not supported yet", "Supported: default, linear, llama3")
    if rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise Unsupported("partial rotary embeddings are not supported for this architecture", "Use another model")
    return metadata


def rope_factors(rope: Config, head_dim: int) -> NDArray[np.float32] | None:
    """What each rotary frequency is divided by under Llama 3's scaling, of head_dim / 2 values; None without it.

    Source: transformers' `_compute_llama3_parameters`: frequencies with a wavelength above
    original_max_position_embeddings / low_freq_factor are divided by `factor`, those below
    original_max_position_embeddings / high_freq_factor stay, and between the two a line joins them.
    """
    if rope.text("rope_type", "default").lower() != "llama3":
        return None
    factor, low, high = (rope.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise rope.bad("high_freq_factor is not above low_freq_factor")
    context = rope.integer("original_max_position_embeddings")
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    wavelengths = 2 * math.pi * rope.number("rope_theta", DEFAULT_BASE) ** exponents
    smooth = np.clip((context / wavelengths - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)
