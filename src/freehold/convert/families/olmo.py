"""OLMo 2 and OLMo 3: norms after the blocks and over all of q and k; OLMo 3 slides a window in most layers."""

from typing import Any

from freehold.convert.config import Config
from freehold.convert.decoder import Decoder
from freehold.convert.keys import Keys
from freehold.convert.layers import FULL, SLIDING, sliding_layers
from freehold.convert.plan import FamilyPlan
from freehold.convert.rope import DEFAULT_BASE, read_back
from freehold.convert.weights import Weights
from freehold.core.errors import Unsupported

ARCHITECTURES = ("Olmo2ForCausalLM", "Olmo3ForCausalLM")
GGUF = ("olmo2",)
_AFTER = (("post_attention_norm", "post_attention_layernorm"), ("post_ffw_norm", "post_feedforward_layernorm"))
_BASE = 500_000.0


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for an OLMo 2 or OLMo 3 model."""
    third = config.architecture() == "Olmo3ForCausalLM"
    model = Decoder(config, weights, "olmo2", ropes=("yarn",) if third else ("linear", "yarn"), rope_base=_BASE)
    model.activation("hidden_act", "silu")
    model.no_bias("attention_bias")
    model.shape.square(config)
    if third:
        _slide(model)
    model.outer(always=True)
    for layer in range(model.shape.layers):
        model.attention(layer)
        model.norm(layer, "attn_q_norm", "self_attn.q_norm", model.shape.queries)
        model.norm(layer, "attn_k_norm", "self_attn.k_norm", model.shape.keys)
        model.feed_forward(layer)
        model.norms(layer, _AFTER)
    return model.finish()


def _slide(model: Decoder) -> None:
    """The windows; their layers must turn on the same base as the others, unscaled, as llama.cpp's graph does."""
    sliding = model.config.sliding_rope(_BASE, "rope_theta")
    if sliding.text("rope_type", "default") != "default" or sliding.number("rope_theta") != model.rope.base:
        raise Unsupported("sliding layers with a rope of their own are not supported for OLMo 3", "Use another model")
    model.metadata["attention.sliding_window"] = model.config.integer("sliding_window", 4096)
    model.metadata["attention.sliding_window_pattern"] = sliding_layers(model.config, model.shape.layers, 4)


def config(keys: Keys) -> dict[str, Any]:
    """What of config.json is its own: OLMo 3's windows, whose layers turn unscaled."""
    if not keys.has("attention.sliding_window"):
        return {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2"}
    layers, base = keys.integer("block_count"), keys.number("rope.freq_base", DEFAULT_BASE)
    sliding = keys.flags("attention.sliding_window_pattern", layers)
    return {
        "architectures": ["Olmo3ForCausalLM"],
        "model_type": "olmo3",
        "sliding_window": keys.integer("attention.sliding_window"),
        "layer_types": [SLIDING if slides else FULL for slides in sliding],
        "rope_parameters": {
            FULL: read_back(keys, keys.integer("attention.key_length")),
            SLIDING: {"rope_type": "default", "rope_theta": base},
        },
    }
