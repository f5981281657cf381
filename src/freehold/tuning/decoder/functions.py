"""The parts of a layer as functions that keep little for their backward pass.

Tensors of a sequence are [tokens, size]. `compute` is the type that products are made in.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from freehold.tuning.decoder.fused import fused, fuses
from freehold.tuning.decoder.int8 import Int8, Operand, operand
from freehold.tuning.decoder.recomputing import again, kept, repeated
from freehold.tuning.decoder.weights import Matrix

Grads = tuple[Tensor | None, ...]
_aten = torch.ops.aten


class Adapter(NamedTuple):
    """A low-rank difference beside a matrix: scale * up @ down. down [rank, in], up [out, rank].

    Source: Hu et al. 2021, arXiv 2106.09685.
    """

    down: Tensor
    up: Tensor
    scale: float
    magnitude: "Magnitude | None" = None
    """How long the rows of the sum are, where that is trained by itself."""


class Magnitude:
    """DoRA: the lengths that the rows of matrix and difference together are brought to, [out].

    `squares` are those of the matrix's own rows. No gradient flows through the lengths that the rows have.
    Source: Liu et al. 2024, arXiv 2402.09353, section 4.3.
    """

    def __init__(self, vector: torch.nn.Parameter, squares: Tensor) -> None:
        self.vector, self.squares = vector, squares

    @classmethod
    def of(cls, matrix: Matrix) -> "Magnitude":
        """The one that changes nothing yet."""
        lengths = torch.linalg.vector_norm(matrix.dense(torch.float32), dim=1)
        return cls(torch.nn.Parameter(lengths), lengths.square())

    def rate(self, matrix: Matrix, adapter: Adapter, dtype: torch.dtype) -> Tensor:
        """What each output is multiplied with, [out]."""
        return self.vector / self._lengths(matrix, adapter, dtype)

    @torch.no_grad()
    def _lengths(self, matrix: Matrix, adapter: Adapter, dtype: torch.dtype) -> Tensor:
        """Of the rows of the sum, which is never made as a whole: it costs as much as `rank` tokens."""
        down, up, scale = adapter.down, adapter.up, adapter.scale
        across = ((matrix.dense(dtype) @ down.to(dtype).T).float() * up).sum(1)
        within = ((up @ (down @ down.T)) * up).sum(1)
        return (self.squares + 2 * scale * across + scale**2 * within).clamp_min(1e-24).sqrt()


class Activation(NamedTuple):
    """What a gate goes through. forward of the gate; backward of what comes back and the gate, into `grad_input`."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[..., Tensor]


ACTIVATIONS = {
    "silu": Activation(silu, _aten.silu_backward),
    "gelu_pytorch_tanh": Activation(
        partial(gelu, approximate="tanh"), partial(_aten.gelu_backward, approximate="tanh")
    ),
}
"""By their names in config.json."""


class _RmsNorm(torch.autograd.Function):
    """Keeps its input, which the residual stream holds anyway, and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, out: torch.dtype) -> Tensor:
        made, rate = _normal(x, weight, eps, out)
        ctx.save_for_backward(x, weight, rate)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Grads:
        x, weight, rate = ctx.saved_tensors
        return *_normal_backward(grads[0], x, weight, rate, ctx.needs_input_grad[1]), None, None


@fused
def _normal(x: Tensor, weight: Tensor, eps: float, out: torch.dtype) -> tuple[Tensor, Tensor]:
    wide = x.float()
    rate = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * rate).mul_(weight).to(out), rate


@fused
def _normal_backward(
    grad: Tensor, x: Tensor, weight: Tensor, rate: Tensor, weighted: bool
) -> tuple[Tensor, Tensor | None]:
    normal = x.float() * rate
    grad = grad.float()
    grad_weight = (grad * normal).flatten(0, -2).sum(0).to(weight.dtype) if weighted else None
    grad = grad * weight
    mean = (grad * normal).mean(-1, keepdim=True)
    return grad.sub_(normal.mul_(mean)).mul_(rate).to(x.dtype), grad_weight


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: torch.dtype) -> Tensor:
    """x / rms(x) * weight over the last dimension, in float32, as type `out`.

    Source: Zhang and Sennrich 2019, arXiv 1910.07467.
    """
    made: Tensor = _RmsNorm.apply(x, weight, eps, out)  # type: ignore[no-untyped-call]
    return made


def _product(
    x: Tensor, frozen: Matrix, weight: Tensor | None, bias: Tensor | None, once: Operand | None = None
) -> Tensor:
    """x @ matrix.T + bias. `once` is x as matrices in 8 bits take it, for those that have it in common."""
    if isinstance(frozen, Int8):
        y = frozen.times(once or operand(x))
        return y if bias is None else y.add_(bias)
    matrix = _dense(frozen, weight, x)
    return x @ matrix.T if bias is None else torch.addmm(bias.to(x.dtype), x, matrix.T)


def _back(grad: Tensor, frozen: Matrix, weight: Tensor | None) -> Tensor:
    """grad @ matrix."""
    return frozen.back(grad) if isinstance(frozen, Int8) else grad @ _dense(frozen, weight, grad)


class _Kept:
    """An adapter, if there is one, and the narrow product that its forward pass keeps."""

    def __init__(self, down: Tensor | None, up: Tensor | None, scale: float, low: Tensor | None = None) -> None:
        self.down, self.up, self.scale, self.low = down, up, scale, low

    def narrow(self, x: Tensor) -> None:
        """Make what is kept."""
        if self.down is not None:
            self.low = (x @ self.down.to(x.dtype).T).mul_(self.scale)

    def beside(self, y: Tensor) -> Tensor:
        """A product with the adapter's part added to it."""
        if self.low is not None and self.up is not None:
            y.addmm_(self.low, self.up.to(y.dtype).T)
        return y

    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """For save_for_backward."""
        return self.down, self.up, self.low

    def backward(self, x: Tensor, grad: Tensor, grad_x: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of both halves; the adapter's part of the input's gradient is added to `grad_x`."""
        if self.down is None or self.up is None or self.low is None:
            return None, None
        narrow = (grad @ self.up.to(grad.dtype)).mul_(self.scale)
        if grad_x is not None:
            grad_x.addmm_(narrow, self.down.to(grad.dtype))
        return (narrow.T @ x).to(self.down.dtype), (grad.T @ self.low).to(self.up.dtype)


class _Linear(torch.autograd.Function):
    """Base and adapter in one: no gradient of a frozen matrix is made, and no copy of the input is kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frozen: Matrix, weight: Tensor | None, bias: Tensor | None,
        down: Tensor | None, up: Tensor | None, scale: float, keep: bool,
    ) -> Tensor:  # fmt: skip
        adapter = _Kept(down, up, scale)
        adapter.narrow(x)

        def make() -> tuple[Tensor]:
            return (adapter.beside(_product(x, frozen, weight, bias)),)

        (y,) = kept(make) if keep else make()
        ctx.frozen, ctx.scale = frozen, scale
        ctx.save_for_backward(x, weight, *adapter.tensors())
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Grads:
        x, weight, down, up, low = ctx.saved_tensors
        grad = grads[0]
        grad_x = _back(grad, ctx.frozen, weight) if ctx.needs_input_grad[0] else None
        grad_weight = (grad.T @ x).to(weight.dtype) if ctx.needs_input_grad[2] else None
        grad_bias = grad.sum(0) if ctx.needs_input_grad[3] else None
        halves = _Kept(down, up, ctx.scale, low).backward(x, grad, grad_x)
        return grad_x, None, grad_weight, grad_bias, *halves, None, None


class _Gated(torch.autograd.Function):
    """activation(gate) * up and the projection behind it; of the three wide tensors only two are kept.

    One that is `unread` where its layer is computed again is not made there, nor what only the backward pass reads.
    """

    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, wide: Tensor, activation: Activation, frozen: Matrix, weight: Tensor | None,
        bias: Tensor | None, down: Tensor | None, up: Tensor | None, scale: float, unread: bool,
    ) -> Tensor:  # fmt: skip
        adapter, ctx.later = _Kept(down, up, scale), unread
        if unread and again():
            y = gate.new_empty(len(gate), frozen.shape[0])
            adapter.low = None if down is None else gate.new_empty(len(gate), len(down))
        else:
            x = _gate(gate, wide, activation.forward)
            adapter.narrow(x)
            y = adapter.beside(_product(x, frozen, weight, bias))
        ctx.activation, ctx.frozen, ctx.scale = activation, frozen, scale
        ctx.save_for_backward(gate, wide, weight, *adapter.tensors())
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Grads:
        gate, wide, weight, down, up, low = ctx.saved_tensors
        grad = grads[0]
        # Fused it is cheaper to make it twice than to read it again.
        active = None if fuses(grad) else ctx.activation.forward(gate)
        x = _gate(gate, wide, ctx.activation.forward) if active is None else active * wide
        grad_x = _back(grad, ctx.frozen, weight)
        grad_weight = (grad.T @ x).to(weight.dtype) if ctx.needs_input_grad[4] else None
        grad_bias = grad.sum(0) if ctx.needs_input_grad[5] else None
        adapter = _Kept(down, up, ctx.scale, low)
        if ctx.later:
            adapter.narrow(x)
        halves = adapter.backward(x, grad, grad_x)
        # Here a layer's backward pass holds the most: what is wide is written over, or gone before more is made.
        if active is None:
            del x
            made = _gate_backward(grad_x, gate, wide, ctx.activation)
        else:
            torch.mul(grad_x, wide, out=x)
            made = ctx.activation.backward(x, gate, grad_input=x), grad_x.mul_(active)
        return *made, None, None, grad_weight, grad_bias, *halves, None, None


@fused
def _gate(gate: Tensor, wide: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    return activation(gate).mul_(wide)


@fused
def _gate_backward(grad: Tensor, gate: Tensor, wide: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    return activation.backward(grad * wide, gate), activation.forward(gate).mul_(grad)


def _dense(frozen: Matrix, weight: Tensor | None, like: Tensor) -> Tensor:
    return frozen.dense(like.dtype) if weight is None else weight.to(like.dtype)


class Linear:
    """A projection: a matrix, trained or frozen, perhaps a bias, perhaps an adapter beside it."""

    def __init__(self, matrix: Matrix, bias: Tensor | None = None) -> None:
        self.matrix, self.bias = matrix, bias
        self.adapter: Adapter | None = None

    def __call__(self, x: Tensor, *, keep: bool = False) -> Tensor:
        """[tokens, in] -> [tokens, out]. With `keep` it is not made twice where the layer is."""
        made: Tensor = _Linear.apply(x, self.matrix, self.matrix.trained, *self._beside(), keep)  # type: ignore[no-untyped-call]
        return self._brought(made)

    def gated(
        self, gate: Tensor, up: Tensor, activation: Activation = ACTIVATIONS["silu"], *, last: bool = False
    ) -> Tensor:
        """What it makes of activation(gate) * up, which is computed again for the backward pass.

        `last` says that what follows in the layer keeps nothing of it.
        """
        unread = last and repeated() and (self.adapter is None or self.adapter.magnitude is None)
        parts = activation, self.matrix, self.matrix.trained, *self._beside(), unread
        made: Tensor = _Gated.apply(gate, up, *parts)  # type: ignore[no-untyped-call]
        return self._brought(made)

    def _beside(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, float]:
        """Bias and adapter. A bias waits until the product has its length."""
        if self.adapter is None:
            return self.bias, None, None, 1.0
        down, up, scale, magnitude = self.adapter
        return self.bias if magnitude is None else None, down, up, scale

    def _brought(self, y: Tensor) -> Tensor:
        """A product with its rows brought to their length, where they have one to be brought to."""
        if self.adapter is None or self.adapter.magnitude is None:
            return y
        made = y * self.adapter.magnitude.rate(self.matrix, self.adapter, y.dtype)
        return (made if self.bias is None else made + self.bias).to(y.dtype)


class _Together(torch.autograd.Function):
    """Frozen projections of one input, each with an adapter: the narrow products of all are one, there and back.

    Tensors behind `keep` are the halves of each adapter, down and up in turns.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, linears: Sequence["Linear"], scale: float, keep: bool, *halves: Tensor
    ) -> tuple[Tensor, ...]:
        down, ups = torch.cat(halves[::2]).to(x.dtype), [up.to(x.dtype) for up in halves[1::2]]
        ctx.ranks = [up.shape[1] for up in ups]
        low = (x @ down.T).mul_(scale)

        def make() -> tuple[Tensor, ...]:
            once = operand(x) if any(isinstance(linear.matrix, Int8) for linear in linears) else None
            parts = zip(linears, ups, torch.split(low, ctx.ranks, 1), strict=True)
            return tuple(
                _product(x, linear.matrix, None, linear.bias, once).addmm_(part, up.T) for linear, up, part in parts
            )

        made = kept(make) if keep else make()
        ctx.linears, ctx.scale, ctx.kept = linears, scale, halves[0].dtype
        ctx.save_for_backward(x, down, low, *ups)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Grads:
        x, down, low, *ups = ctx.saved_tensors
        narrow = torch.cat([grad @ up for grad, up in zip(grads, ups, strict=True)], 1).mul_(ctx.scale)
        grad_x = narrow @ down if ctx.needs_input_grad[0] else None
        if grad_x is not None:
            for grad, linear in zip(grads, ctx.linears, strict=True):
                if isinstance(linear.matrix, Int8):
                    grad_x.add_(linear.matrix.back(grad))
                else:
                    grad_x.addmm_(grad, linear.matrix.dense(grad.dtype))
        downs = torch.split((narrow.T @ x).to(ctx.kept), ctx.ranks)
        parts = zip(grads, torch.split(low, ctx.ranks, 1), strict=True)
        backs = [(grad.T @ part).to(ctx.kept) for grad, part in parts]
        return grad_x, None, None, None, *(half for pair in zip(downs, backs, strict=True) for half in pair)


def project(x: Tensor, linears: Sequence[Linear], *, keep: bool = False) -> list[Tensor]:
    """Each projection of the same input. [tokens, in] -> as many of [tokens, out].

    With `keep` they are not made twice where the layer is.
    """
    adapters = [linear.adapter for linear in linears if linear.matrix.trained is None]
    found = [adapter for adapter in adapters if adapter is not None and adapter.magnitude is None]
    if not len(found) == len(linears) > 1 or len({adapter.scale for adapter in found}) > 1:
        return [linear(x, keep=keep) for linear in linears]
    halves = [half for adapter in found for half in (adapter.down, adapter.up)]
    return list(_Together.apply(x, linears, found[0].scale, keep, *halves))  # type: ignore[no-untyped-call]
