"""Attention over rows packed side by side: each row sees itself alone, and no padding is multiplied elsewhere."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from freehold.tuning.decoder.cache import Cache
from freehold.tuning.decoder.recomputing import kept
from freehold.tuning.decoder.tiles import STEP, hiding, narrow_gradients, sliding, tiled

_SHORT = 512
"""Tokens up to which torch's backward pass is faster in float32 than in bfloat16, 20 against 67 ms at 100 tokens."""
_NARROW = 1024
"""Tokens up to which tiles of plain products of bfloat16 are faster than either: 30 against 43 ms at 1,024 tokens."""
_DENSE = 1024
"""Tokens up to which a window is a mask over all pairs of them, 4 MB at most."""
_WASTE = 4
"""Places of a padded batch for each token, above which rows are told apart by their length."""
_AMPERE = (8, 0)
"""NVIDIA's GPUs from which on torch has FlashAttention for them."""
_WIDEST = 256
"""Numbers of a head that it takes."""
_aten = torch.ops.aten


class Group(NamedTuple):
    """Rows that are padded to one length. Shapes: padded [rows, longest], flat [tokens]."""

    padded: Tensor
    """Index into the packed sequence for each place of the padded batch; places behind a row's end point at 0."""
    flat: Tensor
    """Index into the flattened padded batch for each token."""

    @classmethod
    def of(cls, starts: Tensor, sizes: Tensor) -> "Group":
        """The rows that begin at `starts` and are `sizes` long."""
        places = torch.arange(int(sizes.max()))
        inside = places < sizes[:, None]
        padded = torch.where(inside, starts[:, None] + places, 0)
        return cls(padded, inside.flatten().nonzero().squeeze(1))

    def tokens(self) -> Tensor:
        """Index into the packed sequence for each token."""
        return self.padded.flatten()[self.flat]


class Rows(NamedTuple):
    """Where the rows of a packed sequence lie. Shapes: all but groups [tokens]."""

    groups: tuple[Group, ...]
    order: Tensor | None
    """Where each token lies in the groups, one after another; None where a single group holds them in their order."""
    positions: Tensor
    """Each token's place in its own row."""
    lengths: Tensor
    """The tokens of each token's row."""
    spare: int = 0
    """Tokens at the end that are of no row."""
    edges: Tensor | None = None
    """Where rows begin, and where the last one ends, [rows + 1], for what needs no groups: spare tokens are a row."""
    longest: int = 0
    """Tokens of the longest row."""

    @classmethod
    def of(cls, lengths: list[int], device: torch.device, spare: int = 0) -> "Rows":
        """The layout of rows with these lengths, one after another, and of spare tokens behind them."""
        sizes = torch.tensor(lengths)
        starts = torch.cumsum(sizes, 0) - sizes
        groups = [Group.of(starts[rows], sizes[rows]) for rows in _alike(sizes)]
        order = torch.argsort(torch.cat([group.tokens() for group in groups])).to(device) if len(groups) > 1 else None
        positions = torch.arange(int(sizes.sum())) - _each(starts, sizes)
        return cls(
            tuple(Group(group.padded.to(device), group.flat.to(device)) for group in groups),
            order,
            pad(positions, (0, spare)).to(device),
            pad(_each(sizes, sizes), (0, spare), value=1).to(device),
            spare,
            _edges([*lengths, spare] if spare else lengths).to(device) if device.type == "cuda" else None,
            max([*lengths, spare]),
        )


def _each(values: Tensor, sizes: Tensor) -> Tensor:
    """A row's value for each of its tokens. torch's own way takes milliseconds, in which a GPU has nothing to do."""
    return torch.from_numpy(np.repeat(values.numpy(), sizes.numpy()))


def _edges(lengths: list[int]) -> Tensor:
    return pad(torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0))


def _alike(sizes: Tensor) -> list[Tensor]:
    """Indices of rows to pad together: all of them, or those between two powers of two where padding would be most."""
    if len(sizes) * int(sizes.max()) <= _WASTE * int(sizes.sum()):
        return [torch.arange(len(sizes))]
    powers = sizes.log2().ceil()
    return [(powers == power).nonzero().squeeze(1) for power in torch.unique(powers)]


def _flash(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> tuple[Tensor, Tensor]:
    """torch's attention for CPUs, as [rows, heads, length, size], and the logarithms of sums, [rows, heads, length].

    In bfloat16 it is at 382 tokens four times as slow as at 384, 17 against 4 ms: it gets them in whole steps.
    """
    length = q.shape[2]
    more = -length % STEP if q.dtype == torch.bfloat16 else 0
    if more:
        q, k, v = (pad(part, (0, 0, 0, more)) for part in (q, k, v))
    mask = _mask(q, window)
    out, sums = _aten._scaled_dot_product_flash_attention_for_cpu(
        q, *_for_each(q, k, v), 0.0, mask is None, attn_mask=mask, scale=scale
    )
    return (out[:, :, :length], sums[:, :, :length]) if more else (out, sums)


class _Flash(torch.autograd.Function):
    """torch's attention for CPUs. Short rows go backward in float32."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
        out, sums = _flash(q, k, v, window, scale)
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.scale, ctx.window = scale, window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, sums = ctx.saved_tensors
        wide = torch.float32 if q.shape[2] <= _SHORT else q.dtype
        parts = [part.to(wide) for part in (grads[0], q, k, v, out)]
        mask = _mask(parts[1], ctx.window)
        made = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *parts, sums, 0.0, mask is None, attn_mask=mask, scale=ctx.scale
        )
        return (*(part.to(q.dtype) for part in made), None, None)


class _Narrow(torch.autograd.Function):
    """The same for short rows, backward in the products' own type. Keys that heads share are kept once.

    With `keep` it is not made twice where the layer is.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int, keep: bool) -> Tensor:
        def attend() -> tuple[Tensor, ...]:
            return _flash(q, k, v, window, scale)

        out, sums = kept(attend) if keep else attend()
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.scale, ctx.window = scale, window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, sums = ctx.saved_tensors
        made = narrow_gradients(q, k, v, out, sums, grads[0], ctx.scale, ctx.window)
        return *made, None, None, None


def packed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Rows | Cache,
    *,
    scale: float,
    window: int = 0,
    cap: float = 0.0,
    narrow: bool = False,
) -> Tensor:
    """Causal attention within rows.

    q [tokens, heads, size], k and v [tokens, kv_heads, size] -> [tokens, heads * size]. A token sees `window` tokens,
    itself included, or all before it where that is 0; scores are drawn into +-`cap` where that is not 0.
    With `narrow`, gradients may be rounded where the products within them are.
    Right padding needs no mask: a row's tokens come before it, and what is computed for it is thrown away.
    """
    if isinstance(rows, Cache):
        return rows.attend(q, k, v, scale=scale, window=window, cap=cap)
    if rows.edges is not None and not cap and _flashes(q):
        return _unpadded(q, k, v, rows.edges, rows.longest, scale, window).flatten(1)
    if narrow and len(rows.groups) == 1 == len(rows.groups[0].padded):
        # For a single row's spare tokens too, which takes less than to cut them off and to put zeros in their place.
        rowwise = [part[None].transpose(1, 2) for part in (q, k, v)]
        return _attended(rowwise, scale, window, cap, narrow).transpose(1, 2).reshape(len(q), -1)
    if rows.spare:
        q, k, v = (part[: -rows.spare] for part in (q, k, v))
    made = [_together(q, k, v, group, scale, window, cap, narrow) for group in rows.groups]
    out = made[0] if rows.order is None else torch.cat(made).index_select(0, rows.order)
    return pad(out.reshape(len(q), -1), (0, 0, 0, rows.spare))


@cache
def _modern(device: torch.device) -> bool:
    """Whether torch has FlashAttention for this GPU."""
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= _AMPERE


def _flashes(q: Tensor) -> bool:
    size = q.shape[2]
    return q.dtype in (torch.bfloat16, torch.float16) and size <= _WIDEST and size % 8 == 0 and _modern(q.device)


def _unpadded(q: Tensor, k: Tensor, v: Tensor, edges: Tensor, longest: int, scale: float, window: int) -> Tensor:
    """FlashAttention over rows as they lie: nothing is padded, and heads share keys without copies of them."""
    back = window - 1 if window else -1
    out, *_ = _aten._flash_attention_forward(
        q, k, v, edges, edges, longest, longest, 0.0, not window, False,
        scale=scale, window_size_left=back, window_size_right=0,
    )  # fmt: skip
    return out  # type: ignore[no-any-return]


def _together(
    q: Tensor, k: Tensor, v: Tensor, group: Group, scale: float, window: int, cap: float, narrow: bool
) -> Tensor:
    """For the tokens of a group, [tokens, heads, size]."""
    out = _attended([_unpack(part, group) for part in (q, k, v)], scale, window, cap, narrow)
    out = out.transpose(1, 2).flatten(0, 1)
    return out if len(group.padded) == 1 else out.index_select(0, group.flat)


def _attended(parts: Sequence[Tensor], scale: float, window: int, cap: float, narrow: bool) -> Tensor:
    """For rows of one length: q [rows, heads, length, size], k and v [rows, kv_heads, length, size] -> as q."""
    q, k, v = parts
    length = q.shape[2]
    window = window if window < length else 0
    if cap or (window and length > _DENSE and not _on_processor(q)):
        return tiled(q, k, v, scale, window, cap)
    if narrow and length <= _NARROW and _narrows(q.dtype, q.device):
        keep = brief(length, q.dtype, q.device)
        made: Tensor = _Narrow.apply(q, k, v, scale, window, keep)  # type: ignore[no-untyped-call]
        return made
    return _plain(q, *_for_each(q, k, v), scale, window)


def brief(length: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether what comes of rows of so many tokens is kept where layers are computed twice.

    Of short rows it is small beside the model.
    """
    return length <= _SHORT and _narrows(dtype, device)


def _narrows(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether plain products are made in this type, which is narrower than float32."""
    return dtype != torch.float32 and device.type == "cpu"


def _for_each(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values, as often as heads share them."""
    repeat = q.shape[1] // k.shape[1]
    if repeat == 1:
        return k, v
    return k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)


def _mask(q: Tensor, window: int) -> Tensor | None:
    return hiding(q.shape[2], q.shape[2], window, q.dtype, q.device) if window else None


def _plain(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int) -> Tensor:
    longest = q.shape[2]
    if window and longest > _DENSE:
        return sliding(q, k, v, scale, window)
    if not _on_processor(q):
        mask = _mask(q, window)
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    out: Tensor = _Flash.apply(q, k, v, window, scale)  # type: ignore[no-untyped-call]
    return out


def _on_processor(part: Tensor) -> bool:
    """Whether torch's attention for CPUs can take it."""
    return part.device.type == "cpu"


def _unpack(part: Tensor, group: Group) -> Tensor:
    """[tokens, heads, size] -> [rows, heads, longest, size]."""
    if group.padded.shape == (1, len(part)):
        return part[None].transpose(1, 2)
    padded = part.index_select(0, group.padded.flatten())
    return padded.view(*group.padded.shape, *part.shape[1:]).transpose(1, 2)
