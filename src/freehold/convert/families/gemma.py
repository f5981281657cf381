"""Gemma 2 and the text part of Gemma 3: norms on both sides of a block that count from one, sliding windows.

Gemma 2 caps the logits of attention and of the head. Gemma 3 norms each head's q and k, and turns the layers of its
window on a base of their own; of a Gemma 3 that also sees, the text part is converted.
"""

from typing import Any

from freehold.convert.config import Config
from freehold.convert.decoder import Decoder
from freehold.convert.layers import sliding_layers
from freehold.convert.plan import FamilyPlan
from freehold.convert.rope import Rope
from freehold.convert.weights import Weights
from freehold.core.errors import Unsupported

_SEEING = "Gemma3ForConditionalGeneration"
ARCHITECTURES = ("Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3TextForCausalLM", _SEEING)

_NORMS = (
    ("attn_norm", "input_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
)
_BOTH: dict[str, Any] = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
}
"""What transformers takes for keys that published files leave out."""
SECOND = _BOTH | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
THIRD = _BOTH | {"vocab_size": 262208, "max_position_embeddings": 131072}
_VISION = r"(model\.)?(vision_tower|multi_modal_projector)\."
_WIDEST = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, where llama.cpp scales attention by hidden_size / num_attention_heads."""


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for a Gemma 2 or Gemma 3 model."""
    name = config.architecture()
    if name == "Gemma2ForCausalLM":
        return _second(config.with_defaults(SECOND), weights)
    if name != _SEEING:
        return _third(config.with_defaults(THIRD), weights)
    text = config.section("text_config").with_defaults(THIRD)
    if any(name.startswith("language_model.") for name in weights.tensors):  # as transformers 4 wrote them
        return _third(text, weights, "language_model.model.", "language_model.lm_head.weight")
    return _third(text, weights, "model.language_model.")


def _second(config: Config, weights: Weights) -> FamilyPlan:
    model = Decoder(config, weights, "gemma2", ropes=("linear",))
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if not config.has(key):
            raise Unsupported(f"a Gemma 2 without {key} is not supported", "llama.cpp always caps: use another model")
        model.metadata[key] = config.number(key)
    _blocks(model, 2)
    if any(tensor.name == "output.weight" for tensor in model.tensors):
        raise Unsupported("a Gemma 2 with a head of its own is not supported", "Tie the head to the embedding")
    return model.finish()


def _third(config: Config, weights: Weights, prefix: str = "model.", head: str = "lm_head.weight") -> FamilyPlan:
    model = Decoder(config, weights, "gemma3", ropes=("linear",), rope_base=1_000_000.0, prefix=prefix)
    if config.has("attn_logit_softcapping") or config.flag("use_bidirectional_attention", False):
        raise Unsupported("a Gemma 3 that caps attention or looks ahead is not supported", "Use another model")
    if config.has("final_logit_softcapping"):
        model.metadata["final_logit_softcapping"] = config.number("final_logit_softcapping")
    local = Rope(config, config.sliding_rope(10_000.0, "rope_local_base_freq"), model.shape.head_dim, ())
    model.metadata["rope.freq_base_swa"] = local.base
    _blocks(model, config.integer("sliding_window_pattern", 6), head)
    for layer in range(model.shape.layers):
        for name, module in (("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm")):
            model.norm(layer, name, module, model.shape.head_dim, plus=1.0)
    return model.finish(ignored=_VISION if prefix != "model." else "")


def _blocks(model: Decoder, step: int, head: str = "lm_head.weight") -> None:
    """What both generations have in common; all but every `step`-th layer slide a window."""
    config, shape = model.config, model.shape
    model.activation("hidden_activation", "gelu_pytorch_tanh")
    model.no_bias("attention_bias")
    scale = shape.hidden // shape.heads if shape.layers == _WIDEST[model.arch] else shape.head_dim
    if config.number("query_pre_attn_scalar") != scale:
        raise Unsupported(f"query_pre_attn_scalar is not {scale}, which llama.cpp reckons with", "Use another model")
    model.metadata["attention.sliding_window"] = config.integer("sliding_window")
    model.metadata["attention.sliding_window_pattern"] = sliding_layers(config, shape.layers, step)
    model.outer(head=head, tied=True, plus=1.0)
    for layer in range(shape.layers):
        model.attention(layer)
        model.feed_forward(layer)
        model.norms(layer, _NORMS, plus=1.0)
