"""Attention over rows packed side by side: each row sees itself alone, and no padding is multiplied elsewhere."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from freehold.tuning.decoder.cache import Cache

_SHORT = 512
"""Tokens up to which torch's backward pass is faster in float32 than in bfloat16: 20 against 67 ms at 100 tokens."""
_aten = torch.ops.aten


class Rows(NamedTuple):
    """Where the rows of a packed sequence lie. Shapes: padded [rows, longest], flat and positions [tokens]."""

    padded: Tensor
    """Index into the packed sequence for each place of the padded batch; places behind a row's end point at 0."""
    flat: Tensor
    """Index into the flattened padded batch for each token."""
    positions: Tensor
    """Each token's place in its own row."""

    @classmethod
    def of(cls, lengths: list[int], device: torch.device) -> "Rows":
        """The layout of rows with these lengths, one after another."""
        longest = max(lengths)
        places = torch.arange(longest)
        sizes = torch.tensor(lengths)
        inside = places < sizes[:, None]
        starts = torch.cumsum(sizes, 0) - sizes
        padded = torch.where(inside, starts[:, None] + places, 0)
        flat = inside.flatten().nonzero().squeeze(1)
        positions = places.expand(len(lengths), -1)[inside]
        return cls(padded.to(device), flat.to(device), positions.to(device))


class _Flash(torch.autograd.Function):
    """torch's attention for CPUs. Short rows go backward in float32."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        out, sums = _aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, mask is None, attn_mask=mask, scale=scale
        )
        ctx.save_for_backward(q, k, v, out, sums, mask)
        ctx.scale = scale
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, sums, mask = ctx.saved_tensors
        wide = torch.float32 if q.shape[2] <= _SHORT else q.dtype
        parts = (part.to(wide) for part in (grads[0], q, k, v, out))
        mask = mask if mask is None else mask.to(wide)
        made = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *parts, sums, 0.0, mask is None, attn_mask=mask, scale=ctx.scale
        )
        return (*(part.to(q.dtype) for part in made), None, None)


def packed(q: Tensor, k: Tensor, v: Tensor, rows: Rows | Cache, *, scale: float, window: int = 0) -> Tensor:
    """Causal attention within rows.

    q [tokens, heads, size], k and v [tokens, kv_heads, size] -> [tokens, heads * size].
    Right padding needs no mask: a row's tokens come before it, and what is computed for it is thrown away.
    """
    if isinstance(rows, Cache):
        return rows.attend(q, k, v, scale=scale, window=window)
    tokens, heads, _ = q.shape
    longest = rows.padded.shape[1]
    repeat = heads // k.shape[1]
    q, k, v = (_unpack(part, rows) for part in (q, k, v))
    if repeat > 1:
        k, v = (part.repeat_interleave(repeat, dim=1) for part in (k, v))
    mask = _window(longest, window, q) if window and window < longest else None
    if q.device.type == "cpu":
        out: Tensor = _Flash.apply(q, k, v, mask, scale)  # type: ignore[no-untyped-call]
    else:
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    out = out.transpose(1, 2).flatten(0, 1)
    return (out if len(rows.padded) == 1 else out.index_select(0, rows.flat)).reshape(tokens, -1)


def _unpack(part: Tensor, rows: Rows) -> Tensor:
    """[tokens, heads, size] -> [rows, heads, longest, size]."""
    if len(rows.padded) == 1:
        return part[None].transpose(1, 2)
    padded = part.index_select(0, rows.padded.flatten())
    return padded.view(*rows.padded.shape, *part.shape[1:]).transpose(1, 2)


def _window(longest: int, window: int, like: Tensor) -> Tensor:
    """What is added to scores so that a token sees no more than `window` tokens, itself included."""
    full = torch.ones(longest, longest, dtype=torch.bool, device=like.device)
    seen = full.tril() & full.triu(1 - window)
    return torch.zeros(longest, longest, dtype=like.dtype, device=like.device).masked_fill_(~seen, float("-inf"))
