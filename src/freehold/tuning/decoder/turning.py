"""Turning queries and keys by the angles of their positions."""

from typing import Any

import torch
from torch import Tensor

from freehold.tuning.decoder.fused import fused, fuses


class _Rotate(torch.autograd.Function):
    """Turning back is turning by the opposite angle: nothing is kept but the angles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    if fuses(x):
        return _turned(x, cos, sin)
    size = cos.shape[-1]
    wide = x[..., :size].float()
    made = (wide * cos).addcmul_(wide.roll(size // 2, -1), sin).to(x.dtype)
    return made if size == x.shape[-1] else torch.cat([made, x[..., size:]], -1)


@fused
def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    size, half = cos.shape[-1], cos.shape[-1] // 2
    first, second = x[..., :half].float(), x[..., half:size].float()
    cos, sin = cos[..., :half], sin[..., half:]
    made = torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)
    return torch.cat([made, x[..., size:]], -1) if x.shape[-1] > size else made


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of numbers by angles. x [tokens, heads, size], cos and sin [tokens, 1, what is turned].

    A number's partner is half of what is turned away; the sines of the first halves are negative.
    Source: Su et al. 2021, arXiv 2104.09864; halves, as in transformers.
    """
    made: Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return made
