"""The decoder: token ids in, hidden states out."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from freehold.core.errors import BadModelFile
from freehold.tuning.decoder.attention import Rows, packed
from freehold.tuning.decoder.functions import Linear, rms_norm, rotate
from freehold.tuning.decoder.rope import Rope
from freehold.tuning.decoder.shape import Layer, Shape
from freehold.tuning.decoder.weights import Matrix, Weights

Angles = tuple[Tensor, Tensor]


class Norm:
    """A vector of weights, and what is normalised by it."""

    def __init__(self, weight: Tensor, eps: float, out: torch.dtype) -> None:
        self.weight, self.eps, self.out = weight, eps, out

    def __call__(self, x: Tensor) -> Tensor:
        """The last dimension, normalised."""
        return rms_norm(x, self.weight, self.eps, self.out)


class Parts:
    """Builds layers out of weights, and remembers what can be trained and adapted by its name."""

    def __init__(
        self, shape: Shape, weights: Weights, compute: torch.dtype, device: torch.device, *, full: bool
    ) -> None:
        self.shape, self.weights, self.compute, self.device, self.full = shape, weights, compute, device, full
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

    def linear(self, path: str, rows: int, columns: int) -> Linear:
        """A projection, from `columns` numbers to `rows`."""
        made = Linear(self.matrix(f"{path}.weight", rows, columns), self.vector(f"{path}.bias", rows))
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
        return None if weight is None else Norm(weight, self.shape.eps, out or self.compute)


class Attention:
    """Queries, keys and values, and what comes of them."""

    def __init__(self, parts: Parts, path: str, layer: Layer) -> None:
        shape = parts.shape
        self.shape, self.layer = shape, layer
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q = parts.linear(f"{path}.q_proj", wide, shape.hidden)
        self.k = parts.linear(f"{path}.k_proj", narrow, shape.hidden)
        self.v = parts.linear(f"{path}.v_proj", narrow, shape.hidden)
        self.o = parts.linear(f"{path}.o_proj", shape.hidden, wide)
        # OLMo normalises all heads together, before they are told apart.
        whole = shape.family in ("olmo2", "olmo3")
        self.q_norm = parts.maybe_norm(f"{path}.q_norm", wide if whole else shape.head_dim)
        self.k_norm = parts.maybe_norm(f"{path}.k_norm", narrow if whole else shape.head_dim)
        self.whole = whole

    def __call__(self, x: Tensor, rows: Rows, angles: Angles) -> Tensor:
        """[tokens, hidden] -> the same."""
        q, k = self._heads(self.q(x), self.q_norm), self._heads(self.k(x), self.k_norm)
        v = self._heads(self.v(x), None)
        if self.layer.rotated:
            q, k = rotate(q, *angles), rotate(k, *angles)
        return self.o(packed(q, k, v, rows, scale=self.shape.attention_scale, window=self.layer.window))

    def _heads(self, x: Tensor, norm: Norm | None) -> Tensor:
        if norm is not None and self.whole:
            x = norm(x)
        x = x.view(len(x), -1, self.shape.head_dim)
        return norm(x) if norm is not None and not self.whole else x


class Mlp:
    """The gated feed-forward part of a layer."""

    def __init__(self, parts: Parts, path: str) -> None:
        shape = parts.shape
        self.gate = parts.linear(f"{path}.gate_proj", shape.intermediate, shape.hidden)
        self.up = parts.linear(f"{path}.up_proj", shape.intermediate, shape.hidden)
        self.down = parts.linear(f"{path}.down_proj", shape.hidden, shape.intermediate)

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> the same."""
        return self.down.gated(self.gate(x), self.up(x))


class Block:
    """One layer of the decoder on its residual stream."""

    def __init__(self, parts: Parts, path: str, layer: Layer, residual: torch.dtype) -> None:
        shape = parts.shape
        self.before = shape.norms == "before"
        first, second = ("input_layernorm", "post_attention_layernorm")
        if not self.before:
            first, second = ("post_attention_layernorm", "post_feedforward_layernorm")
        out = parts.compute if self.before else residual
        self.first = parts.norm(f"{path}.{first}", shape.hidden, out)
        self.second = parts.norm(f"{path}.{second}", shape.hidden, out)
        self.attention = Attention(parts, f"{path}.self_attn", layer)
        self.mlp = Mlp(parts, f"{path}.mlp")
        self.compute, self.scale = parts.compute, shape.residual_scale

    def __call__(self, x: Tensor, rows: Rows, angles: Angles) -> Tensor:
        """[tokens, hidden] -> the same."""
        x = self._add(x, self.first, partial(self.attention, rows=rows, angles=angles))
        return self._add(x, self.second, self.mlp)

    def _add(self, x: Tensor, norm: Norm, part: "partial[Tensor] | Mlp") -> Tensor:
        made = part(norm(x)) if self.before else norm(part(x.to(self.compute)))
        return torch.add(x, made, alpha=self.scale)


class Decoder:
    """A model to train. `full` trains all of it, in float32; else only adapters that are put beside `linears`."""

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
    ) -> None:
        parts = Parts(shape, weights, compute, device, full=full)
        self.shape, self.ropes, self.compute, self.checkpointing = shape, ropes, compute, checkpointing
        # Small changes of a trained model would be lost in a bfloat16 sum over its layers.
        self.residual = torch.float32 if full else compute
        self.embedding = parts.matrix("model.embed_tokens.weight", shape.vocab, shape.hidden)
        self.blocks = [
            Block(parts, f"model.layers.{index}", layer, self.residual) for index, layer in enumerate(shape.layers)
        ]
        self.norm = parts.norm("model.norm", shape.hidden)
        self.head = self.embedding if self._tied(weights) else parts.matrix("lm_head.weight", shape.vocab, shape.hidden)
        self.parameters, self.linears = parts.parameters, parts.linears
        if weights.rest():
            raise BadModelFile(
                f"{weights.origin} has tensors that a {shape.family} has not: {weights.rest()[0]}",
                "Use a base that is what its config.json says",
            )

    def _tied(self, weights: Weights) -> bool:
        """Whether the head is the embedding. Some files hold it twice."""
        if self.shape.tied:
            weights.maybe("lm_head.weight", self.shape.vocab, self.shape.hidden)
        return self.shape.tied

    def __call__(self, ids: Tensor, rows: Rows) -> Tensor:
        """The hidden states behind the last norm. ids [tokens] -> [tokens, hidden]."""
        x = self.embedding.rows(ids, self.residual)
        if self.shape.embedding_scale != 1.0:
            x = x * self.shape.embedding_scale
        angles = {kind: rope.angles(rows.positions) for kind, rope in self.ropes.items()}
        for block, layer in zip(self.blocks, self.shape.layers, strict=True):
            x = self._through(block, x, rows, angles[layer.kind])
        return self.norm(x)

    def _through(self, block: Block, x: Tensor, rows: Rows, angles: Angles) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return block(x, rows, angles)
        kept: Tensor = checkpoint(block, x, rows, angles, use_reentrant=False, preserve_rng_state=False)
        return kept

    def trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """What an optimiser changes, by its name in the file that keeps it."""
        yield from self.parameters.items()
