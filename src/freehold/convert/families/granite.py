"""Dense Granite 3 and 4: Llama with multipliers on embeddings, attention, residuals and logits."""

from typing import Any

from freehold.convert.config import Config
from freehold.convert.decoder import Decoder
from freehold.convert.keys import Keys
from freehold.convert.plan import FamilyPlan
from freehold.convert.weights import Weights

ARCHITECTURES = ("GraniteForCausalLM",)
GGUF = ("granite",)


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for a dense Granite model."""
    model = Decoder(config, weights, "granite", ropes=("linear", "yarn"))
    model.activation("hidden_act", "silu")
    model.no_bias("attention_bias", "mlp_bias")
    model.metadata |= {
        "embedding_scale": config.number("embedding_multiplier", 1.0),
        "attention.scale": config.number("attention_multiplier", 1.0),
        "residual_scale": config.number("residual_multiplier", 1.0),
        "logit_scale": config.number("logits_scaling", 1.0),
    }
    model.outer()
    for layer in range(model.shape.layers):
        model.attention(layer, rotated=True)
        model.feed_forward(layer)
        model.norms(layer)
    return model.finish()


def config(keys: Keys) -> dict[str, Any]:
    """What of config.json is its own: the multipliers."""
    head_dim = keys.integer("embedding_length") // keys.integer("attention.head_count")
    return {
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        "embedding_multiplier": keys.number("embedding_scale", 1.0),
        "attention_multiplier": keys.number("attention.scale", head_dim**-0.5),
        "residual_multiplier": keys.number("residual_scale", 1.0),
        "logits_scaling": keys.number("logit_scale", 1.0),
    }
