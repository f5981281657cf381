"""Rotary position settings as GGUF metadata and tensors of frequency factors.

Sources: transformers' modeling_rope_utils.py for what the settings mean.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from freehold.convert.config import Config
from freehold.convert.dtypes import Floats
from freehold.convert.keys import Keys
from freehold.convert.plan import Metadata, TensorPlan
from freehold.core.errors import Unsupported
from freehold.formats.reading import shown

DEFAULT_BASE = 10000.0
_ORIGINAL = "original_max_position_embeddings"
_SAME = {"su": "longrope"}
"""Older names of scalings."""


class Rope:
    """How one kind of layer turns q and k. Raises Unsupported for a scaling that is not among `kinds`."""

    def __init__(
        self, config: Config, rope: Config, head_dim: int, kinds: Collection[str], *, partial: bool = False
    ) -> None:
        self.config, self.rope, self.kinds = config, rope, kinds
        named = rope.text("rope_type", "default").lower()
        self.kind = _SAME.get(named, named)
        if self.kind not in ("default", *kinds):
            known = ", ".join(("default", *kinds))
            raise Unsupported(f"rope scaling {shown(named)} is not supported for this architecture", f"It has: {known}")
        part = rope.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
        if part > 1.0 or (part != 1.0 and not partial):
            raise Unsupported("partial rotary embeddings are not supported for this architecture", "Use another model")
        self.base, self.dimensions = rope.number("rope_theta"), int(head_dim * part)

    def metadata(self) -> Metadata:
        """Keys below the architecture's name."""
        scaling: Metadata = {"freq_base": self.base, "dimension_count": self.dimensions}
        match self.kind:
            case "linear":
                scaling |= {"scaling.type": "linear", "scaling.factor": self.rope.number("factor")}
            case "yarn":
                scaling |= self._yarn()
            case "longrope":
                scaling |= {
                    "scaling.original_context_length": self._original(),
                    "scaling.attn_factor": self.rope.number("attention_factor", self._long_attention()),
                }
        return {f"rope.{key}": value for key, value in scaling.items()}

    def _original(self) -> int:
        """The context of the training before its extension."""
        context = self.config.integer(_ORIGINAL, self.config.integer("max_position_embeddings"))
        return self.rope.integer(_ORIGINAL, context, low=2)

    def _yarn(self) -> Metadata:
        for key in ("mscale", "mscale_all_dim"):
            if self.rope.has(key):
                raise Unsupported(f"rope setting {key} is not supported", "Use another model")
        if not self.rope.flag("truncate", True):
            raise Unsupported("rope setting truncate is not supported", "Use another model")
        factor = self.rope.number("factor")
        usual = usual_attention(factor)
        return {
            "scaling.type": "yarn",
            "scaling.factor": factor,
            "scaling.original_context_length": self._original(),
            # llama.cpp multiplies attention by the usual factor itself, and by this one.
            "scaling.attn_factor": self.rope.number("attention_factor", usual) / usual,
            "scaling.yarn_beta_fast": self.rope.number("beta_fast", 32.0),
            "scaling.yarn_beta_slow": self.rope.number("beta_slow", 1.0),
        }

    def _long_attention(self) -> float:
        original = self._original()
        factor = self.rope.number("factor", self.config.integer("max_position_embeddings") / original)
        return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1.0 else 1.0

    def tensors(self) -> Iterator[TensorPlan]:
        """What each rotary frequency is divided by, dimensions / 2 values, for the scalings that say so."""
        if self.kind == "llama3":
            yield _planned("rope_freqs", self._llama3())
        if self.kind == "longrope":
            yield _planned("rope_factors_long", self._factors("long_factor"))
            yield _planned("rope_factors_short", self._factors("short_factor"))

    def _factors(self, key: str) -> Floats:
        values: Any = self.rope.values.get(key)
        if not isinstance(values, list) or len(values) != self.dimensions // 2:
            raise self.rope.bad(f"{key} is not a list of {self.dimensions // 2} numbers")
        numbers = [Config(self.rope.path, {key: value}).number(key) for value in values]
        return np.array(numbers, dtype=np.float32)

    def _llama3(self) -> Floats:
        """Llama 3's factors.

        Frequencies with a wavelength above original_max_position_embeddings / low_freq_factor are divided by `factor`,
        those below original_max_position_embeddings / high_freq_factor stay, and between the two a line joins them.
        """
        factor, low, high = (self.rope.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        if high <= low:
            raise self.rope.bad("high_freq_factor is not above low_freq_factor")
        exponents = np.arange(0, self.dimensions, 2, dtype=np.float64) / self.dimensions
        wavelengths = 2 * math.pi * self.base**exponents
        smooth = np.clip((self.rope.integer(_ORIGINAL) / wavelengths - low) / (high - low), 0.0, 1.0)
        return (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def usual_attention(factor: float) -> float:
    """What YaRN multiplies attention by, unless a model says otherwise (Peng et al. 2023, arXiv 2309.00071)."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1.0 else 1.0


def _planned(name: str, values: Floats) -> TensorPlan:
    return TensorPlan(f"{name}.weight", values.shape, values=values)


def read_back(keys: Keys, head_dim: int) -> dict[str, Any]:
    """The rope settings that a GGUF file was made of, in the spelling of transformers 5. Raises BadModelFile."""
    base: dict[str, Any] = {"rope_type": "default", "rope_theta": keys.number("rope.freq_base", DEFAULT_BASE)}
    turned = keys.integer("rope.dimension_count", head_dim)
    if turned != head_dim:
        base["partial_rotary_factor"] = turned / head_dim
    kind, factor = keys.text("rope.scaling.type", "linear"), _factor(keys)
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return base
    if kind == "yarn":
        return base | _yarn(keys, factor)
    return base | {"rope_type": kind, "factor": factor}


def _factor(keys: Keys) -> float:
    # The second is how older files say it.
    return keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0))


def _yarn(keys: Keys, factor: float) -> dict[str, Any]:
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys.integer("rope.scaling.original_context_length"),
        "attention_factor": keys.number("rope.scaling.attn_factor", 1.0) * usual_attention(factor),
        "beta_fast": keys.number("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": keys.number("rope.scaling.yarn_beta_slow", 1.0),
    }
