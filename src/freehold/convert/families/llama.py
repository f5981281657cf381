"""Llama and dense Mistral: RMSNorm, SwiGLU, grouped-query attention, rotary positions over the whole head."""

import re
from collections.abc import Iterator

import numpy as np

from freehold.convert.config import Config
from freehold.convert.plan import FamilyPlan, Metadata, Rows, TensorPlan
from freehold.convert.rope import rope_factors, rope_metadata
from freehold.convert.weights import Weights, equal
from freehold.core.errors import Unsupported
from freehold.formats.reading import shown

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
ARCH = "llama"

_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$|\.masked_bias$")
"""Buffers that old checkpoints carry and that follow from config.json."""


class Shape:
    """The sizes of a model, from config.json. Raises BadModelFile where they contradict each other."""

    def __init__(self, config: Config) -> None:
        self.vocab, self.hidden = config.integer("vocab_size"), config.integer("hidden_size")
        self.layers, self.feed_forward = config.integer("num_hidden_layers"), config.integer("intermediate_size")
        self.heads = config.integer("num_attention_heads")
        self.kv_heads = config.integer("num_key_value_heads", self.heads)
        self.head_dim = config.integer("head_dim", max(1, self.hidden // self.heads))
        if self.heads % self.kv_heads:
            raise config.bad("num_attention_heads is not a multiple of num_key_value_heads")
        if self.head_dim % 2:
            raise config.bad("head_dim is odd")
        if not config.has("head_dim") and self.hidden % self.heads:
            raise config.bad("hidden_size is not a multiple of num_attention_heads")


def plan(config: Config, weights: Weights) -> FamilyPlan:
    """What to write for a Llama or dense Mistral model."""
    _check_features(config)
    shape = Shape(config)
    tensors = [*_outer(config, weights, shape)]
    factors = rope_factors(config.rope(), shape.head_dim)
    if factors is not None:
        tensors.append(TensorPlan("rope_freqs.weight", factors.shape, values=factors))
    for layer in range(shape.layers):
        tensors.extend(_layer(config, weights, shape, layer))
    _check_all_used(config, weights, tensors)
    return FamilyPlan(ARCH, shape.vocab, _metadata(config, shape), tensors)


def _check_features(config: Config) -> None:
    if (activation := config.text("hidden_act", "silu")) != "silu":
        raise Unsupported(f"activation {shown(activation)} is not supported for this architecture", "Use another model")
    if config.has("quantization_config"):
        raise Unsupported("the weights are already quantised", "Convert the F32, F16 or BF16 weights of the model")


def _metadata(config: Config, shape: Shape) -> Metadata:
    context = config.integer("max_position_embeddings")
    if config.has("sliding_window"):
        # llama.cpp's llama graph attends to everything: beyond the window its answers would differ from the model's.
        context = min(context, config.integer("sliding_window"))
    return {
        f"{ARCH}.vocab_size": shape.vocab,
        f"{ARCH}.context_length": context,
        f"{ARCH}.embedding_length": shape.hidden,
        f"{ARCH}.block_count": shape.layers,
        f"{ARCH}.feed_forward_length": shape.feed_forward,
        f"{ARCH}.attention.head_count": shape.heads,
        f"{ARCH}.attention.head_count_kv": shape.kv_heads,
        f"{ARCH}.attention.key_length": shape.head_dim,
        f"{ARCH}.attention.value_length": shape.head_dim,
        f"{ARCH}.attention.layer_norm_rms_epsilon": config.number("rms_norm_eps"),
        f"{ARCH}.rope.dimension_count": shape.head_dim,
        **rope_metadata(config.rope(), ARCH),
    }


def rotated_rows(heads: int, head_dim: int) -> Rows:
    """The row order of q and k that llama.cpp's rotation expects.

    transformers rotates value i together with value i + head_dim / 2, llama.cpp's llama graph neighbours: the two
    halves of each head are interleaved.
    """
    order = np.arange(heads * head_dim, dtype=np.int64).reshape(heads, 2, head_dim // 2)
    return order.swapaxes(1, 2).reshape(-1)


def _outer(config: Config, weights: Weights, shape: Shape) -> Iterator[TensorPlan]:
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    size = (shape.vocab, shape.hidden)
    weights.expect(embedding, size)
    yield TensorPlan("token_embd.weight", size, embedding)
    tied = config.flag("tie_word_embeddings", False)
    # A head that training has moved away from the embedding counts, whatever the flag says.
    if not tied or (head in weights.tensors and not equal(weights.get(embedding), weights.expect(head, size))):
        weights.expect(head, size)
        yield TensorPlan("output.weight", size, head)
    weights.expect("model.norm.weight", (shape.hidden,))
    yield TensorPlan("output_norm.weight", (shape.hidden,), "model.norm.weight")


def _layer(config: Config, weights: Weights, shape: Shape, layer: int) -> Iterator[TensorPlan]:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    query_rows, key_rows = rotated_rows(shape.heads, shape.head_dim), rotated_rows(shape.kv_heads, shape.head_dim)
    attention_bias, mlp_bias = config.flag("attention_bias", False), config.flag("mlp_bias", False)
    linears = (
        ("attn_q", "self_attn.q_proj", queries, shape.hidden, query_rows, attention_bias),
        ("attn_k", "self_attn.k_proj", keys, shape.hidden, key_rows, attention_bias),
        ("attn_v", "self_attn.v_proj", keys, shape.hidden, None, attention_bias),
        ("attn_output", "self_attn.o_proj", shape.hidden, queries, None, attention_bias),
        ("ffn_gate", "mlp.gate_proj", shape.feed_forward, shape.hidden, None, mlp_bias),
        ("ffn_up", "mlp.up_proj", shape.feed_forward, shape.hidden, None, mlp_bias),
        ("ffn_down", "mlp.down_proj", shape.hidden, shape.feed_forward, None, mlp_bias),
    )
    prefix = f"model.layers.{layer}."
    for name, module, outputs, inputs, rows, bias in linears:
        weights.expect(f"{prefix}{module}.weight", (outputs, inputs))
        yield TensorPlan(f"blk.{layer}.{name}.weight", (outputs, inputs), f"{prefix}{module}.weight", rows)
        if bias:
            weights.expect(f"{prefix}{module}.bias", (outputs,))
            yield TensorPlan(f"blk.{layer}.{name}.bias", (outputs,), f"{prefix}{module}.bias", rows)
    for name, module in (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")):
        weights.expect(f"{prefix}{module}.weight", (shape.hidden,))
        yield TensorPlan(f"blk.{layer}.{name}.weight", (shape.hidden,), f"{prefix}{module}.weight")


def _check_all_used(config: Config, weights: Weights, tensors: list[TensorPlan]) -> None:
    """Raises Unsupported for a tensor that would be dropped: the model would silently be another one."""
    used = {tensor.source for tensor in tensors} | {"lm_head.weight"}
    for name in weights.names():
        if name not in used and not _DERIVED.search(name):
            raise Unsupported(
                f"tensor {shown(name)} has no place in this architecture",
                f"Check that {config.path.name} belongs to these weights",
            )
