"""Dense Qwen 2, 2.5 and 3: biases on q, k and v in the second generation, norms on each head's q and k in the third."""

from typing import Any

from freehold.convert.config import Config
from freehold.convert.decoder import Decoder
from freehold.convert.keys import Keys
from freehold.convert.plan import FamilyPlan
from freehold.convert.weights import Weights

ARCHITECTURES = ("Qwen2ForCausalLM", "Qwen3ForCausalLM")
GGUF = ("qwen2", "qwen3")


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for a dense Qwen model."""
    third = config.architecture() == "Qwen3ForCausalLM"
    model = Decoder(config, weights, "qwen3" if third else "qwen2", ropes=("linear", "yarn"))
    model.activation("hidden_act", "silu")
    if third:
        model.no_bias("attention_bias")
    else:
        model.shape.square(config)
    model.outer()
    for layer in range(model.shape.layers):
        model.attention(layer, bias=not third)
        if third:
            model.norm(layer, "attn_q_norm", "self_attn.q_norm", model.shape.head_dim)
            model.norm(layer, "attn_k_norm", "self_attn.k_norm", model.shape.head_dim)
        model.feed_forward(layer)
        model.norms(layer)
    return model.finish(window=config.flag("use_sliding_window", False))


def config(keys: Keys) -> dict[str, Any]:
    """What of config.json is its own. No GGUF file of theirs slides a window: its context ends where one would."""
    kind = keys.header.architecture
    return {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind,
        "use_sliding_window": False,
    }
