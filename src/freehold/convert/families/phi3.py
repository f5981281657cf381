"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: q, k and v in one matrix, gate and up in another, long rotary positions."""

from freehold.convert.config import Config
from freehold.convert.decoder import Decoder
from freehold.convert.plan import FamilyPlan
from freehold.convert.weights import Weights

ARCHITECTURES = ("Phi3ForCausalLM",)


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for a dense Phi-3 or Phi-4 model."""
    model = Decoder(config, weights, "phi3", ropes=("longrope",), partial=True)
    model.activation("hidden_act", "silu")
    model.no_bias("attention_bias", "mlp_bias")
    model.shape.square(config)
    shape = model.shape
    model.outer()
    fused, doubled = (shape.queries + 2 * shape.keys, shape.hidden), (2 * shape.feed_forward, shape.hidden)
    for layer in range(shape.layers):
        model.linear(layer, "attn_qkv", "self_attn.qkv_proj", fused, bias=False, rows=None)
        model.linear(layer, "attn_output", "self_attn.o_proj", (shape.hidden, shape.queries), bias=False, rows=None)
        model.linear(layer, "ffn_up", "mlp.gate_up_proj", doubled, bias=False, rows=None)
        model.linear(layer, "ffn_down", "mlp.down_proj", (shape.hidden, shape.feed_forward), bias=False, rows=None)
        model.norms(layer)
    return model.finish(window=True)
