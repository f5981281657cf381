"""What a base's config.json says of its decoder, with the families' differences as data."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from freehold.core.errors import BadModelFile, Unsupported

Placement = Literal["before", "after"]
_SLIDING = "sliding_attention"


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """How a family differs from Llama."""

    norms: Placement = "before"
    """Where the norms stand: before attention and MLP, or after them."""
    window: Literal["", "all", "listed"] = ""
    """Whether `sliding_window` holds for all layers, or for those of `layer_types`."""
    scaled: bool = False
    """Whether Granite's multipliers are read."""


FAMILIES = {
    "llama": Family(),
    "mistral": Family(window="all"),
    "qwen2": Family(window="listed"),
    "qwen3": Family(window="listed"),
    "smollm3": Family(window="listed"),
    "olmo2": Family(norms="after"),
    "olmo3": Family(norms="after", window="listed"),
    "granite": Family(scaled=True),
}


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from layer to layer."""

    window: int = 0
    """Tokens that a token sees, itself included; 0 is all before it."""
    rotated: bool = True
    """Whether positions turn its queries and keys."""
    kind: str = ""
    """Its name among the layer types, by which a family may tell rope settings apart."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder's sizes, in numbers, and factors."""

    family: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    eps: float
    tied: bool
    norms: Placement
    layers: tuple[Layer, ...]
    attention_scale: float
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0

    @classmethod
    def read(cls, folder: Path) -> "Shape":
        """Of a model folder. Raises BadModelFile, Unsupported."""
        path = folder / "config.json"
        try:
            config = json.loads(path.read_bytes())
            return cls.of(config)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadModelFile(f"cannot read {path}: {error!r}", "Check that the folder is complete") from error

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Shape":
        """Of a parsed config.json. Raises Unsupported; KeyError, TypeError and ValueError for what is not there."""
        kind = config.get("model_type", "")
        family = FAMILIES.get(kind)
        if family is None:
            raise Unsupported(f"cannot tune model type {kind!r}", f"Supported: {', '.join(sorted(FAMILIES))}")
        if config.get("hidden_act", "silu") != "silu":
            raise Unsupported(f"cannot tune the activation {config['hidden_act']!r}", "Use a base with silu")
        heads, hidden = _size(config, "num_attention_heads"), _size(config, "hidden_size")
        head_dim = int(config.get("head_dim") or hidden // heads)
        factors = config if family.scaled else {}
        return cls(
            family=kind,
            hidden=hidden,
            intermediate=_size(config, "intermediate_size"),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=head_dim,
            vocab=_size(config, "vocab_size"),
            context=_size(config, "max_position_embeddings"),
            eps=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", kind in ("granite", "smollm3"))),
            norms=family.norms,
            layers=tuple(_layers(config, family)),
            attention_scale=float(factors.get("attention_multiplier", head_dim**-0.5)),
            embedding_scale=float(factors.get("embedding_multiplier", 1.0)),
            residual_scale=float(factors.get("residual_multiplier", 1.0)),
            logit_scale=1.0 / float(factors.get("logits_scaling", 1.0)),
        )


def _size(config: dict[str, Any], key: str) -> int:
    value = config[key]
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ValueError(f"{key} is {value!r}")
    return value


def _layers(config: dict[str, Any], family: Family) -> list[Layer]:
    count = _size(config, "num_hidden_layers")
    window = int(config.get("sliding_window") or 0) if config.get("use_sliding_window", True) else 0
    kinds = config.get("layer_types") or [_SLIDING if family.window == "all" else ""] * count
    rotated = config.get("no_rope_layers") or [1] * count
    if len(kinds) != count or len(rotated) != count:
        raise ValueError(f"{count} layers, of which {len(kinds)} have a type and {len(rotated)} positions")
    return [
        Layer(window=window if family.window and kind == _SLIDING else 0, rotated=bool(turned), kind=kind)
        for kind, turned in zip(kinds, rotated, strict=True)
    ]
