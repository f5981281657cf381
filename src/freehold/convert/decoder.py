"""What the plans of all decoder-only families share: sizes, the usual metadata, and tensors checked one by one."""

import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from freehold.convert.config import Config
from freehold.convert.plan import FamilyPlan, Metadata, Rows, TensorPlan
from freehold.convert.rope import DEFAULT_BASE, Rope
from freehold.convert.weights import Weights, equal
from freehold.core.errors import Unsupported
from freehold.formats.reading import shown

_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$|\.masked_bias$")
"""Buffers that old checkpoints carry and that follow from config.json."""

BEFORE = (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"))
"""Norms before attention and before feed-forward, as most families have them: name in GGUF, module in the folder."""


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
        self.queries, self.keys = self.heads * self.head_dim, self.kv_heads * self.head_dim

    def square(self, config: Config) -> None:
        """Raises Unsupported unless the heads together are as wide as the model, which some graphs take for granted."""
        if self.queries != self.hidden:
            raise Unsupported(
                f"{shown(config.path, 400)}: heads of {self.head_dim} do not add up to hidden_size {self.hidden}",
                "llama.cpp cannot run such a model of this architecture: use another one",
            )


def rotated_rows(heads: int, head_dim: int) -> Rows:
    """The row order of q and k that the rotation of some of llama.cpp's graphs expects.

    transformers rotates value i together with value i + head_dim / 2, these graphs neighbours: the two halves of each
    head are interleaved.
    """
    order = np.arange(heads * head_dim, dtype=np.int64).reshape(heads, 2, head_dim // 2)
    return order.swapaxes(1, 2).reshape(-1)


class Decoder:
    """A plan in the making. `arch` is llama.cpp's name of the architecture, `prefix` goes before every source name."""

    def __init__(
        self,
        config: Config,
        weights: Weights,
        arch: str,
        *,
        ropes: Collection[str],
        rope_base: float = DEFAULT_BASE,
        partial: bool = False,
        prefix: str = "model.",
    ) -> None:
        """`ropes` are the ways of scaling positions that the graph knows, `partial` is whether it can rotate a part."""
        self.config, self.weights, self.arch, self.prefix = config, weights, arch, prefix
        self.shape = Shape(config)
        self.rope = Rope(config, config.rope(rope_base), self.shape.head_dim, ropes, partial=partial)
        self.tensors: list[TensorPlan] = []
        self.metadata: Metadata = {}
        self._head = ""
        if config.has("quantization_config"):
            raise Unsupported("the weights are already quantised", "Convert the F32, F16 or BF16 weights of the model")

    def activation(self, key: str, wanted: str) -> None:
        """Raises Unsupported for an activation that the graph does not compute."""
        if (found := self.config.text(key, wanted)) != wanted:
            raise Unsupported(f"activation {shown(found)} is not supported for this architecture", "Use another model")

    def add(self, name: str, source: str, shape: Sequence[int], rows: Rows | None = None, plus: float = 0.0) -> None:
        """The tensor `source`, which must have this shape, under its name in GGUF. Raises BadModelFile."""
        self.weights.expect(source, shape)
        self.tensors.append(TensorPlan(name, tuple(shape), source, rows, plus=plus))

    def linear(self, layer: int, name: str, module: str, size: Sequence[int], *, bias: bool, rows: Rows | None) -> None:
        """A matrix of `size` [outputs, inputs], with its bias."""
        source = f"{self.prefix}layers.{layer}.{module}"
        self.add(f"blk.{layer}.{name}.weight", f"{source}.weight", size, rows)
        if bias:
            self.add(f"blk.{layer}.{name}.bias", f"{source}.bias", size[:1], rows)

    def norm(self, layer: int, name: str, module: str, size: int = 0, plus: float = 0.0) -> None:
        """A norm's weight, as wide as the model unless `size` says otherwise."""
        source = f"{self.prefix}layers.{layer}.{module}.weight"
        self.add(f"blk.{layer}.{name}.weight", source, (size or self.shape.hidden,), plus=plus)

    def outer(
        self, *, head: str = "lm_head.weight", tied: bool = False, always: bool = False, plus: float = 0.0
    ) -> None:
        """Embedding, last norm and head; a tied head is written only where it differs, or where it is `always` read."""
        size, self._head = (self.shape.vocab, self.shape.hidden), head
        embedding = f"{self.prefix}embed_tokens.weight"
        self.add("token_embd.weight", embedding, size)
        if not self.config.flag("tie_word_embeddings", tied) or self._moved(embedding, head, size):
            self.add("output.weight", head, size)
        elif always:
            self.add("output.weight", embedding, size)
        self.add("output_norm.weight", f"{self.prefix}norm.weight", size[1:], plus=plus)
        self.tensors.extend(self.rope.tensors())

    def _moved(self, embedding: str, head: str, size: Sequence[int]) -> bool:
        """Whether training has moved the head away from the embedding: then it counts, whatever the flag says."""
        weights = self.weights
        return head in weights.tensors and not equal(weights.get(embedding), weights.expect(head, size))

    def attention(self, layer: int, *, bias: bool = False, out_bias: bool = False, rotated: bool = False) -> None:
        """The four matrices of an attention block."""
        shape = self.shape
        query = rotated_rows(shape.heads, shape.head_dim) if rotated else None
        key = rotated_rows(shape.kv_heads, shape.head_dim) if rotated else None
        self.linear(layer, "attn_q", "self_attn.q_proj", (shape.queries, shape.hidden), bias=bias, rows=query)
        self.linear(layer, "attn_k", "self_attn.k_proj", (shape.keys, shape.hidden), bias=bias, rows=key)
        self.linear(layer, "attn_v", "self_attn.v_proj", (shape.keys, shape.hidden), bias=bias, rows=None)
        self.linear(layer, "attn_output", "self_attn.o_proj", (shape.hidden, shape.queries), bias=out_bias, rows=None)

    def feed_forward(self, layer: int, *, bias: bool = False) -> None:
        """The three matrices of a gated feed-forward block."""
        wide, narrow = (self.shape.feed_forward, self.shape.hidden), (self.shape.hidden, self.shape.feed_forward)
        self.linear(layer, "ffn_gate", "mlp.gate_proj", wide, bias=bias, rows=None)
        self.linear(layer, "ffn_up", "mlp.up_proj", wide, bias=bias, rows=None)
        self.linear(layer, "ffn_down", "mlp.down_proj", narrow, bias=bias, rows=None)

    def norms(self, layer: int, pairs: Iterable[tuple[str, str]] = BEFORE, plus: float = 0.0) -> None:
        """The norms of a block, each as wide as the model."""
        for name, module in pairs:
            self.norm(layer, name, module, plus=plus)

    def no_bias(self, *flags: str) -> None:
        """Raises Unsupported where the config asks for biases that the graph leaves out."""
        for flag in flags:
            if self.config.flag(flag, False):
                raise Unsupported(f"{flag} is not supported for this architecture", "Use another model")

    def context(self, *, window: bool) -> int:
        """The context; not above the attention window where `window` says that it counts and the graph has none."""
        context = self.config.integer("max_position_embeddings")
        if window and self.config.has("sliding_window"):
            # llama.cpp's graph attends to everything: beyond the window its answers would differ from the model's.
            return min(context, self.config.integer("sliding_window"))
        return context

    def finish(self, *, window: bool = False, ignored: str = "") -> FamilyPlan:
        """The plan. `ignored` matches tensors that are left out on purpose. Raises Unsupported for any other one."""
        self._check_all_used(ignored)
        shape = self.shape
        sizes: Metadata = {
            "vocab_size": shape.vocab,
            "context_length": self.context(window=window),
            "embedding_length": shape.hidden,
            "block_count": shape.layers,
            "feed_forward_length": shape.feed_forward,
            "attention.head_count": shape.heads,
            "attention.head_count_kv": shape.kv_heads,
            "attention.key_length": shape.head_dim,
            "attention.value_length": shape.head_dim,
            "attention.layer_norm_rms_epsilon": self.config.number("rms_norm_eps"),
            **self.rope.metadata(),
            **self.metadata,
        }
        named = {f"{self.arch}.{key}": value for key, value in sizes.items()}
        return FamilyPlan(self.arch, shape.vocab, named, self.tensors)

    def _check_all_used(self, ignored: str) -> None:
        """Raises Unsupported for a tensor that would be dropped: the model would silently be another one."""
        used = {tensor.source for tensor in self.tensors} | {self._head}
        for name in self.weights.names():
            if name not in used and not _DERIVED.search(name) and not (ignored and re.match(ignored, name)):
                raise Unsupported(
                    f"tensor {shown(name)} has no place in this architecture",
                    f"Check that {self.config.path.name} belongs to these weights",
                )
