"""Attention over rows packed side by side: each row sees itself alone, and no padding is multiplied elsewhere."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from freehold.core.errors import Unsupported

NAME = "freehold_packed"


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


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_rows: Rows,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within rows. query [1, heads, tokens, size] -> [1, tokens, heads, size].

    Right padding needs no mask: a row's tokens come before it, and what is computed for it is thrown away.
    """
    if softcap:
        raise Unsupported("this base caps its attention scores, which tuning does not support yet", "Use another base")
    rows, longest = packed_rows.padded.shape
    q, k, v = (_unpack(part, packed_rows) for part in (query, key, value))
    mask = _window(longest, sliding_window, q.device) if sliding_window and sliding_window < longest else None
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )
    flat = out.transpose(1, 2).reshape(rows * longest, q.shape[1], -1).index_select(0, packed_rows.flat)
    return flat.unsqueeze(0), None


def _unpack(part: Tensor, rows: Rows) -> Tensor:
    """[1, heads, tokens, size] -> [rows, heads, longest, size]."""
    tokens = part[0].transpose(0, 1)
    padded = tokens.index_select(0, rows.padded.flatten())
    batch: Tensor = padded.reshape(*rows.padded.shape, *tokens.shape[1:]).transpose(1, 2)
    return batch


def _window(longest: int, window: int, device: torch.device) -> Tensor:
    full = torch.ones(longest, longest, dtype=torch.bool, device=device)
    return full.tril() & full.triu(1 - window)


def register() -> None:
    """Make the attention known to transformers under NAME."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
