"""The decoder: token ids in, hidden states out."""

import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning.decoder.attention import Rows, brief, packed
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.cache import Cache
from freehold.tuning.decoder.functions import ACTIVATIONS, Linear, project, rms_norm
from freehold.tuning.decoder.int8 import Int8
from freehold.tuning.decoder.offload import OnHost
from freehold.tuning.decoder.recomputing import twice
from freehold.tuning.decoder.rope import Rope
from freehold.tuning.decoder.shape import NORMS, Layer, Shape
from freehold.tuning.decoder.turning import rotate
from freehold.tuning.decoder.weights import Matrix, Weights

Angles = tuple[Tensor, Tensor]
_VISION = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\.")


class Norm:
    """A vector of weights, and what is normalised by it; `plus` is added to the weights."""

    def __init__(self, weight: Tensor, eps: float, out: torch.dtype, plus: float = 0.0) -> None:
        self.weight, self.eps, self.out, self.plus = weight, eps, out, plus

    def __call__(self, x: Tensor) -> Tensor:
        """The last dimension, normalised."""
        return rms_norm(x, self.weight + self.plus if self.plus else self.weight, self.eps, self.out)


class Parts:
    """Builds layers out of weights, and remembers what can be trained and adapted by its name."""

    def __init__(
        self, shape: Shape, weights: Weights, compute: torch.dtype, device: torch.device, *, full: bool, int8: bool
    ) -> None:
        self.shape, self.weights, self.compute, self.device, self.full = shape, weights, compute, device, full
        self.int8 = Buffers(device) if int8 else None
        self.parameters: dict[str, torch.nn.Parameter] = {}
        self.linears: dict[str, Linear] = {}

    def matrix(self, name: str, rows: int, columns: int) -> Matrix:
        """A matrix, trained when all of the model is."""
        made = self.weights.matrix(name, rows, columns, self.device, trained=self.full)
        if made.trained is not None:
            self.parameters[name] = made.trained
        return made

    def vector(self, name: str, size: int) -> Tensor | None:
        """A bias or a norm's weights, where there are any."""
        found = self.weights.maybe(name, size)
        if found is None or not self.full:
            return found if found is None else found.to(self.device, torch.float32)
        made = torch.nn.Parameter(found.to(self.device).float().clone())
        self.parameters[name] = made
        return made

    def linear(self, path: str, rows: int, columns: int, *, exact: bool = False) -> Linear:
        """A projection, from `columns` numbers to `rows`; an `exact` one is not made in 8 bits."""
        matrix = self.matrix(f"{path}.weight", rows, columns)
        whole = Int8(matrix, self.int8) if self.int8 and not exact else matrix
        made = Linear(whole, self.vector(f"{path}.bias", rows))
        self.linears[path] = made
        return made

    def norm(self, path: str, size: int, out: torch.dtype | None = None) -> Norm:
        """A norm that must be there."""
        made = self.maybe_norm(path, size, out)
        if made is None:
            raise BadModelFile(f"{self.weights.origin} lacks {path}.weight", "Check that the folder is complete")
        return made

    def maybe_norm(self, path: str, size: int, out: torch.dtype | None = None) -> Norm | None:
        """A norm, where there is one."""
        weight = self.vector(f"{path}.weight", size)
        return None if weight is None else Norm(weight, self.shape.eps, out or self.compute, self.shape.norm_plus)


class Attention:
    """Queries, keys and values, and what comes of them."""

    def __init__(self, parts: Parts, path: str, layer: Layer) -> None:
        shape = parts.shape
        self.shape, self.layer = shape, layer
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.sizes = [wide, narrow, narrow]
        # What is rounded here a softmax makes larger: an eighth of the products, half of what 8 bits would change.
        if shape.fused:
            self.inputs = [parts.linear(f"{path}.qkv_proj", sum(self.sizes), shape.hidden, exact=True)]
        else:
            names = ("q_proj", "k_proj", "v_proj")
            self.inputs = [
                parts.linear(f"{path}.{name}", size, shape.hidden, exact=True)
                for name, size in zip(names, self.sizes, strict=True)
            ]
        self.o = parts.linear(f"{path}.o_proj", shape.hidden, wide)
        # OLMo normalises all heads together, before they are told apart.
        whole = shape.family in ("olmo2", "olmo3")
        self.q_norm = parts.maybe_norm(f"{path}.q_norm", wide if whole else shape.head_dim)
        self.k_norm = parts.maybe_norm(f"{path}.k_norm", narrow if whole else shape.head_dim)
        self.whole = whole
        # A whole model sums up what was rounded over all its steps; what a few numbers beside it learn is not harmed.
        self.narrow = not parts.full

    def __call__(self, x: Tensor, rows: Rows | Cache, angles: Angles) -> Tensor:
        """[tokens, hidden] -> the same."""
        keep = self.narrow and isinstance(rows, Rows) and brief(rows.longest, x.dtype, x.device)
        made = project(x, self.inputs, keep=keep)
        q, k, v = made if len(made) == 3 else torch.split(made[0], self.sizes, dim=-1)
        q, k, v = self._heads(q, self.q_norm), self._heads(k, self.k_norm), self._heads(v, None)
        if self.layer.rotated:
            q, k = rotate(q, *angles), rotate(k, *angles)
        shape, layer = self.shape, self.layer
        seen = packed(
            q, k, v, rows, scale=shape.attention_scale, window=layer.window, cap=shape.attention_cap, narrow=self.narrow
        )
        return self.o(seen, keep=keep)

    def _heads(self, x: Tensor, norm: Norm | None) -> Tensor:
        if norm is not None and self.whole:
            x = norm(x)
        x = x.view(len(x), -1, self.shape.head_dim)
        return norm(x) if norm is not None and not self.whole else x


class Mlp:
    """The gated feed-forward part of a layer. Of what the `last` one gives nothing is kept for a backward pass."""

    def __init__(self, parts: Parts, path: str, *, last: bool) -> None:
        shape = parts.shape
        self.last = last
        self.activation = ACTIVATIONS[shape.activation]
        if shape.fused:
            self.inputs = [parts.linear(f"{path}.gate_up_proj", 2 * shape.intermediate, shape.hidden)]
        else:
            names = ("gate_proj", "up_proj")
            self.inputs = [parts.linear(f"{path}.{name}", shape.intermediate, shape.hidden) for name in names]
        self.down = parts.linear(f"{path}.down_proj", shape.hidden, shape.intermediate)

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> the same."""
        made = project(x, self.inputs)
        gate, up = made if len(made) == 2 else made[0].chunk(2, dim=-1)
        return self.down.gated(gate, up, self.activation, last=self.last)


class Block:
    """One layer of the decoder on its residual stream."""

    def __init__(self, parts: Parts, path: str, layer: Layer, residual: torch.dtype) -> None:
        shape = parts.shape
        self.norms = [
            (
                parts.norm(f"{path}.{before}", shape.hidden) if before else None,
                parts.norm(f"{path}.{after}", shape.hidden, residual) if after else None,
            )
            for before, after in NORMS[shape.norms]
        ]
        self.attention = Attention(parts, f"{path}.self_attn", layer)
        self.mlp = Mlp(parts, f"{path}.mlp", last=self.norms[1][1] is None)
        self.compute, self.scale = parts.compute, shape.residual_scale

    def __call__(self, x: Tensor, rows: Rows | Cache, angles: Angles) -> Tensor:
        """[tokens, hidden] -> the same."""
        x = self._add(x, *self.norms[0], partial(self.attention, rows=rows, angles=angles))
        return self._add(x, *self.norms[1], self.mlp)

    def _add(self, x: Tensor, before: Norm | None, after: Norm | None, part: "partial[Tensor] | Mlp") -> Tensor:
        made = part(x.to(self.compute) if before is None else before(x))
        return torch.add(x, made if after is None else after(made), alpha=self.scale)


class Network(Protocol):
    """What objectives compute with: a decoder, or what stands in its place."""

    shape: Shape
    head: Matrix

    @property
    def linears(self) -> Mapping[str, Linear]:
        """Projections that have adapters beside them which can be taken off."""

    def __call__(self, ids: Tensor, rows: Rows | Cache) -> Tensor:
        """The hidden states behind the last norm. ids [tokens] -> [tokens, hidden]."""


class Decoder:
    """A model to train. `full` trains all of it, in float32; else only adapters that are put beside `linears`.

    With `offload`, the inputs of layers that checkpointing keeps wait for the backward pass in the host's memory; with
    `int8`, products with the layers' frozen matrices are made in 8 bits.
    """

    def __init__(
        self,
        shape: Shape,
        weights: Weights,
        ropes: dict[str, Rope],
        *,
        compute: torch.dtype,
        device: torch.device,
        full: bool = False,
        checkpointing: bool = False,
        offload: bool = False,
        int8: bool = False,
    ) -> None:
        parts = Parts(shape, weights, compute, device, full=full, int8=int8)
        self.shape, self.ropes, self.compute, self.checkpointing = shape, ropes, compute, checkpointing
        self.offload = offload
        # Small changes of a trained model would be lost in a bfloat16 sum over its layers.
        self.residual = torch.float32 if full else compute
        prefix, head = _names(shape, weights, full=full)
        self.embedding = parts.matrix(f"{prefix}embed_tokens.weight", shape.vocab, shape.hidden)
        self.blocks = [
            Block(parts, f"{prefix}layers.{index}", layer, self.residual) for index, layer in enumerate(shape.layers)
        ]
        self.norm = parts.norm(f"{prefix}norm", shape.hidden)
        self.head = self.embedding if self._tied(weights, head) else parts.matrix(head, shape.vocab, shape.hidden)
        self.parameters, self.linears = parts.parameters, parts.linears
        rest = [name for name in weights.rest() if not (shape.sees and _VISION.match(name))]
        if rest:
            raise BadModelFile(
                f"{weights.origin} has tensors that a {shape.family} has not: {rest[0]}",
                "Use a base that is what its config.json says",
            )

    def _tied(self, weights: Weights, head: str) -> bool:
        """Whether the head is the embedding. Some files hold it twice."""
        if self.shape.tied:
            weights.maybe(head, self.shape.vocab, self.shape.hidden)
        return self.shape.tied

    def __call__(self, ids: Tensor, rows: Rows | Cache) -> Tensor:
        """The hidden states behind the last norm. ids [tokens] -> [tokens, hidden]."""
        x = self.embed(ids)
        angles = {kind: rope.angles(rows) for kind, rope in self.ropes.items()}
        for block, layer in zip(self.blocks, self.shape.layers, strict=True):
            x = self._through(block, x, rows, angles[layer.kind])
        return self.norm(x)

    def embed(self, ids: Tensor) -> Tensor:
        """What goes into the first layer. ids [tokens] -> [tokens, hidden]."""
        x, scale = self.embedding.rows(ids, self.residual), self.shape.embedding_scale
        if self.shape.rounded:
            # As in Gemma's training: the root of 3072 becomes 55.5.
            scale = torch.tensor(scale, dtype=self.residual).item()
        return x if scale == 1.0 else x * scale

    def _through(self, block: Block, x: Tensor, rows: Rows | Cache, angles: Angles) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return block(x, rows, angles)
        with OnHost() if self.offload else nullcontext():
            return twice(block, x, rows, angles)

    def trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """What an optimiser changes, by its name in the file that keeps it."""
        yield from self.parameters.items()


def _names(shape: Shape, weights: Weights, *, full: bool) -> tuple[str, str]:
    """What goes before the names of the decoder's tensors, and the name of its head."""
    if not shape.sees:
        return "model.", "lm_head.weight"
    if full:
        raise Unsupported("cannot train all of a model that takes images too", "Use method = 'lora'")
    # transformers 4 wrote the second.
    if "model.language_model.embed_tokens.weight" in weights.tensors:
        return "model.language_model.", "lm_head.weight"
    return "language_model.model.", "language_model.lm_head.weight"
