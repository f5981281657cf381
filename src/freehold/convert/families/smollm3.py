"""SmolLM3: Llama with every fourth layer left without rotary positions."""

from typing import Any

from freehold.convert.config import Config
from freehold.convert.decoder import Decoder
from freehold.convert.keys import Keys
from freehold.convert.plan import FamilyPlan
from freehold.convert.weights import Weights
from freehold.core.errors import Unsupported

ARCHITECTURES = ("SmolLM3ForCausalLM",)
GGUF = ("smollm3",)
_STEP = 4
"""llama.cpp's graph has this number fixed."""


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for a SmolLM3 model."""
    model = Decoder(config, weights, "smollm3", ropes=("linear", "yarn"), rope_base=2_000_000.0)
    model.activation("hidden_act", "silu")
    model.no_bias("attention_bias", "mlp_bias")
    _check_rotated_layers(config, model.shape.layers)
    model.outer(tied=True)
    for layer in range(model.shape.layers):
        model.attention(layer, rotated=True)
        model.feed_forward(layer)
        model.norms(layer)
    return model.finish(window=config.flag("use_sliding_window", False))


def _check_rotated_layers(config: Config, layers: int) -> None:
    step = config.integer("no_rope_layer_interval", _STEP)
    found = config.values.get("no_rope_layers") or [int((layer + 1) % step != 0) for layer in range(layers)]
    if found != [int((layer + 1) % _STEP != 0) for layer in range(layers)]:
        raise Unsupported("no_rope_layers does not leave out every fourth layer", "llama.cpp knows no other pattern")


def config(keys: Keys) -> dict[str, Any]:
    """What of config.json is its own: the layers without positions."""
    layers = keys.integer("block_count")
    return {
        "architectures": ["SmolLM3ForCausalLM"],
        "model_type": "smollm3",
        "no_rope_layers": [int((layer + 1) % _STEP != 0) for layer in range(layers)],
        "no_rope_layer_interval": _STEP,
        "use_sliding_window": False,
    }
