"""What a base's config.json says of its decoder, with the families' differences as data."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from freehold.convert.families.gemma import SECOND, THIRD
from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning.decoder.functions import ACTIVATIONS

Placement = Literal["before", "after", "both"]
NORMS: dict[Placement, tuple[tuple[str, str], tuple[str, str]]] = {
    "before": (("input_layernorm", ""), ("post_attention_layernorm", "")),
    "after": (("", "post_attention_layernorm"), ("", "post_feedforward_layernorm")),
    "both": (
        ("input_layernorm", "post_attention_layernorm"),
        ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ),
}
"""The names of those before and after attention, and of those before and after the MLP."""
SLIDING, FULL = "sliding_attention", "full_attention"


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """How a family differs from Llama."""

    norms: Placement = "before"
    """Where the norms stand: before attention and MLP, after them, or both."""
    window: Literal["", "all", "listed"] = ""
    """Whether `sliding_window` holds for all layers, or for those of `layer_types`."""
    every: int = 0
    """Where there are no `layer_types`: of so many layers the last sees everything, the others a window."""
    scaled: bool = False
    """Whether Granite's multipliers are read."""
    gemma: bool = False
    """Whether norms count from one, embeddings grow by the root of their size, and Gemma's factors are read."""
    fused: bool = False
    """Whether queries, keys and values come of one matrix, gate and up of another."""
    partial: bool = False
    """Whether positions may turn a part of each head only."""
    theta: float = 10_000.0
    """The base of the angles, where no setting says."""
    local: tuple[str, float] | None = None
    """Where layers with a window turn by angles of their own, unscaled: the older key of their base, and that base."""
    defaults: dict[str, Any] = {}
    """What transformers takes for keys that published files leave out."""


_UNUSED: dict[str, Any] = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
_SMOLLM: dict[str, Any] = {"use_sliding_window": False, "no_rope_layer_interval": 4, "tie_word_embeddings": True}
_EPSILON: dict[str, Any] = {"rms_norm_eps": 1e-5}
_OLMO3: dict[str, Any] = _EPSILON | {"sliding_window": 4096}
FAMILIES = {
    "llama": Family(),
    "mistral": Family(window="all"),
    "qwen2": Family(window="listed", defaults=_UNUSED),
    "qwen3": Family(window="listed", defaults=_UNUSED | {"head_dim": 128}),
    "smollm3": Family(window="listed", theta=2e6, defaults=_SMOLLM),
    "olmo2": Family(norms="after", defaults=_EPSILON),
    "olmo3": Family(norms="after", window="listed", every=4, theta=5e5, local=("rope_theta", 5e5), defaults=_OLMO3),
    "granite": Family(scaled=True, defaults={"tie_word_embeddings": True}),
    "phi3": Family(window="all", fused=True, partial=True, defaults=_EPSILON),
    "gemma2": Family(norms="both", window="listed", every=2, gemma=True, defaults=SECOND),
    "gemma3_text": Family(
        norms="both",
        window="listed",
        every=6,
        gemma=True,
        theta=1e6,
        local=("rope_local_base_freq", 1e4),
        defaults=THIRD,
    ),
}
_SEEING = "gemma3"
"""Its text part is tuned."""


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
    activation: str = "silu"
    norm_plus: float = 0.0
    """Added to the weights of norms."""
    attention_cap: float = 0.0
    """Scores are drawn into what lies between it and its negative; 0 lets them be."""
    logit_cap: float = 0.0
    """The same of the logits."""
    fused: bool = False
    """Whether queries, keys and values come of one matrix, gate and up of another."""
    sees: bool = False
    """Whether it is the text part of a model that takes images too."""

    @property
    def kinds(self) -> frozenset[str]:
        """The types of its layers."""
        return frozenset(layer.kind for layer in self.layers)

    @property
    def rounded(self) -> bool:
        """Whether the factor of embeddings is rounded to their type."""
        return FAMILIES[self.family].gemma

    @classmethod
    def read(cls, folder: Path) -> "Shape":
        """Of a model folder. Raises BadModelFile, Unsupported."""
        path = folder / "config.json"
        try:
            config = json.loads(path.read_bytes())
            return cls.of(config)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise BadModelFile(f"cannot read {path}: {error!r}", "Check that the folder is complete") from error

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Shape":
        """Of a parsed config.json. Raises Unsupported; KeyError, TypeError and ValueError for what is not there."""
        sees = config.get("model_type") == _SEEING
        config = text_part(config)
        kind = config.get("model_type", "")
        family = FAMILIES.get(kind)
        if family is None:
            raise Unsupported(f"cannot tune model type {kind!r}", f"Supported: {', '.join(sorted(FAMILIES))}")
        config = {**family.defaults, **config}
        heads, hidden = _size(config, "num_attention_heads"), _size(config, "hidden_size")
        head_dim = int(config.get("head_dim") or hidden // heads)
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
            tied=bool(config.get("tie_word_embeddings", family.gemma)),
            norms=family.norms,
            layers=tuple(_layers(config, family)),
            activation=_activation(config, family),
            fused=family.fused,
            sees=sees,
            **(
                _gemma(config, kind, hidden)
                if family.gemma
                else _multipliers(config if family.scaled else {}, head_dim)
            ),
        )


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says of the language model: all of it, or the part of a model that sees."""
    if config.get("model_type") != _SEEING:
        return config
    tied = config.get("tie_word_embeddings", True)
    return {"model_type": "gemma3_text", **config["text_config"], "tie_word_embeddings": tied}


def _size(config: dict[str, Any], key: str) -> int:
    value = config[key]
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ValueError(f"{key} is {value!r}")
    return value


def _activation(config: dict[str, Any], family: Family) -> str:
    key, usual = ("hidden_activation", "gelu_pytorch_tanh") if family.gemma else ("hidden_act", "silu")
    name = str(config.get(key) or usual)
    if name not in ACTIVATIONS:
        raise Unsupported(f"cannot tune the activation {name!r}", f"Use a base with {' or '.join(ACTIVATIONS)}")
    return name


def _multipliers(config: dict[str, Any], head_dim: int) -> dict[str, float]:
    """Granite's."""
    return {
        "attention_scale": float(config.get("attention_multiplier", head_dim**-0.5)),
        "embedding_scale": float(config.get("embedding_multiplier", 1.0)),
        "residual_scale": float(config.get("residual_multiplier", 1.0)),
        "logit_scale": 1.0 / float(config.get("logits_scaling", 1.0)),
    }


def _gemma(config: dict[str, Any], kind: str, hidden: int) -> dict[str, float]:
    """Gemma's factors and caps. transformers' Gemma 3 reads no cap of attention."""
    cap = float(config.get("attn_logit_softcapping") or 0.0)
    if config.get("use_bidirectional_attention") or (cap and kind != "gemma2"):
        raise Unsupported("cannot tune a Gemma 3 that caps attention or looks ahead", "Use another base")
    return {
        "attention_scale": float(config["query_pre_attn_scalar"]) ** -0.5,
        "embedding_scale": hidden**0.5,
        "norm_plus": 1.0,
        "attention_cap": cap,
        "logit_cap": float(config.get("final_logit_softcapping") or 0.0),
    }


def _layers(config: dict[str, Any], family: Family) -> list[Layer]:
    count = _size(config, "num_hidden_layers")
    window = int(config.get("sliding_window") or 0) if config.get("use_sliding_window", True) else 0
    step = int(config.get("no_rope_layer_interval") or 0)
    rotated = config.get("no_rope_layers") or [not step or (index + 1) % step for index in range(count)]
    kinds = config.get("layer_types") or _kinds(config, family, rotated)
    if len(kinds) != count or len(rotated) != count:
        raise ValueError(f"{count} layers, of which {len(kinds)} have a type and {len(rotated)} positions")
    return [
        Layer(window=window if family.window and kind == SLIDING else 0, rotated=bool(turned), kind=kind)
        for kind, turned in zip(kinds, rotated, strict=True)
    ]


def _kinds(config: dict[str, Any], family: Family, rotated: list[Any]) -> list[str]:
    """The types of layers where they are not listed, as transformers counts them out."""
    first, step = config.get("max_window_layers"), int(config.get("sliding_window_pattern") or family.every)
    if family.window != "listed":
        return [SLIDING if family.window else ""] * len(rotated)
    if step:
        slide = [(index + 1) % step != 0 for index in range(len(rotated))]
    else:
        slide = [not turned if first is None else index >= first for index, turned in enumerate(rotated)]
    return [SLIDING if slides else FULL for slides in slide]
