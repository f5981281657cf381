"""Llama and dense Mistral: RMSNorm, SwiGLU, grouped-query attention, rotary positions over the whole head."""

from typing import Any

from freehold.convert.config import Config
from freehold.convert.decoder import Decoder
from freehold.convert.keys import Keys
from freehold.convert.plan import FamilyPlan
from freehold.convert.weights import Weights

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
GGUF = ("llama",)


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for a Llama or dense Mistral model."""
    model = Decoder(config, weights, "llama", ropes=("linear", "llama3", "yarn"))
    model.activation("hidden_act", "silu")
    attention_bias, mlp_bias = config.flag("attention_bias", False), config.flag("mlp_bias", False)
    model.outer()
    for layer in range(model.shape.layers):
        model.attention(layer, bias=attention_bias, out_bias=attention_bias, rotated=True)
        model.feed_forward(layer, bias=mlp_bias)
        model.norms(layer)
    return model.finish(window=True)


def config(keys: Keys) -> dict[str, Any]:
    """What of config.json is its own. A file does not say whether it is Llama or Mistral, and nothing differs."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": "blk.0.attn_q.bias" in keys.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in keys.tensors,
    }
