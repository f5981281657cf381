"""Attention over tiles of queries and the keys that they see: memory grows with the length of a row, not its square."""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

_BLOCK = 512
"""Queries that share a mask of their window."""
_NUMBERS = 1 << 20
"""Scores held at a time: 4 MB of float32, which a processor's caches hold."""
_FEWEST = 16
"""Queries of a tile at least, however long the row."""
_WIDE = 96
"""Queries of a tile whose products are narrow: wider ones are multiplied with more keys that they do not see."""
STEP = 32
"""What padded rows' lengths are multiples of: oneDNN makes code for each size of a product, and never forgets it."""
_aten = torch.ops.aten


@lru_cache(maxsize=8)
def hiding(queries: int, keys: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to scores so that a token sees no more than `window` tokens, itself included: [queries, keys].

    The queries are the last ones of the keys.
    """
    full = torch.ones(queries, keys, dtype=torch.bool, device=device)
    seen = full.tril(keys - queries) & full.triu(keys - queries + 1 - window)
    return torch.zeros(queries, keys, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))


def sliding(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int) -> Tensor:
    """torch's attention for CPUs within a window. q, k and v [rows, heads, length, size] -> the same."""
    out: Tensor = _Sliding.apply(q, k, v, scale, window)  # type: ignore[no-untyped-call]
    return out


class _Sliding(torch.autograd.Function):
    """One call for each block of queries. The backward pass adds up in float32."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int) -> Tensor:
        out, sums = torch.empty_like(q), []
        for queries, keys, mask in _blocks(q.shape[2], window, q.dtype, q.device):
            out[:, :, queries], part = _aten._scaled_dot_product_flash_attention_for_cpu(
                q[:, :, queries], k[:, :, keys], v[:, :, keys], 0.0, False, attn_mask=mask, scale=scale
            )
            sums.append(part)
        ctx.save_for_backward(q, k, v, out, *sums)
        ctx.scale, ctx.window = scale, window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *sums = ctx.saved_tensors
        grad_q = torch.empty_like(q)
        grad_k, grad_v = (torch.zeros_like(part, dtype=torch.float32) for part in (k, v))
        blocks = _blocks(q.shape[2], ctx.window, torch.float32, q.device)
        for (queries, keys, mask), part in zip(blocks, sums, strict=True):
            places = (queries, queries, keys, keys, queries)
            parts = (whole[:, :, at].float() for whole, at in zip((grads[0], q, k, v, out), places, strict=True))
            made = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *parts, part, 0.0, False, attn_mask=mask, scale=ctx.scale
            )
            grad_q[:, :, queries] = made[0]
            grad_k[:, :, keys] += made[1]
            grad_v[:, :, keys] += made[2]
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None


def _blocks(
    length: int, window: int, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[slice, slice, Tensor]]:
    for begin in range(0, length, _BLOCK):
        end, first = min(begin + _BLOCK, length), max(0, begin - window + 1)
        yield slice(begin, end), slice(first, end), hiding(end - begin, end - first, window, dtype, device)


def tiled(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int, cap: float) -> Tensor:
    """Causal attention with scores that are drawn into +-`cap`, if that is not 0, and a window, if that is not 0.

    q [rows, heads, length, size], k and v [rows, kv_heads, length, size] -> as q.
    Source of the cap: Gemma team 2024, arXiv 2408.00118.
    """
    rows, heads, length, size = q.shape
    entries = rows * k.shape[1]
    grouped = q.reshape(entries, -1, length, size)
    flat = (part.reshape(entries, length, size) for part in (k, v))
    out: Tensor = _Tiled.apply(grouped, *flat, scale, window, cap)  # type: ignore[no-untyped-call]
    return out.view(rows, heads, length, size)


class _Tile(NamedTuple):
    """Some entries of a batch, some queries of them, and the keys that these see, of which the last are their own."""

    entries: slice
    queries: slice
    keys: slice

    def hide(self, scores: Tensor, window: int) -> Tensor:
        """Scores [entries, repeat, queries, keys], with those that are not seen at minus infinity."""
        first, begin, end = self.keys.start, self.queries.start, self.queries.stop
        place = torch.arange(begin, end, device=scores.device)
        scores[..., begin - first :].masked_fill_(place > place[:, None], float("-inf"))
        gone = end - window - first
        if window and gone > 0:
            keys = torch.arange(first, first + gone, device=scores.device)
            scores[..., :gone].masked_fill_(keys <= place[:, None] - window, float("-inf"))
        return scores

    def clear(self, likely: Tensor, window: int) -> None:
        """The same of probabilities: 0 where nothing is seen, in place."""
        shift = self.queries.start - self.keys.start
        likely.tril_(shift)
        if window:
            likely.triu_(shift + 1 - window)


class _Tiled(torch.autograd.Function):
    """Keeps nothing but its inputs: scores and probabilities of a tile are made again for the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int, cap: float) -> Tensor:
        out = torch.empty_like(q)
        for tile in _tiles(q, window):
            scores = _scores(q, k, tile, scale, cap)
            if cap:
                scores.mul_(cap)
            likely = torch.softmax(tile.hide(scores, window), -1).to(q.dtype)
            out[tile.entries, :, tile.queries] = _by_head(_flat(likely) @ v[tile.entries, tile.keys], scores)
        ctx.save_for_backward(q, k, v)
        ctx.settings = scale, window, cap
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        scale, window, cap = ctx.settings
        grad_q = torch.empty_like(q)
        grad_k, grad_v = (torch.zeros_like(part, dtype=torch.float32) for part in (k, v))
        for tile in _tiles(q, window):
            drawn = _scores(q, k, tile, scale, cap)
            likely = torch.softmax(tile.hide(drawn * cap if cap else drawn, window), -1)
            back = _flat(grads[0][tile.entries, :, tile.queries])
            keys, values = k[tile.entries, tile.keys], v[tile.entries, tile.keys]
            grad_v[tile.entries, tile.keys] += _flat(likely.to(q.dtype)).mT @ back
            grad = _by_head(back @ values.mT, likely).float()
            grad = _aten._softmax_backward_data(grad, likely, -1, torch.float32)
            if cap:
                grad.mul_(drawn.square_().neg_().add_(1.0))
            narrow = _flat(grad.mul_(scale).to(q.dtype))
            grad_q[tile.entries, :, tile.queries] = _by_head(narrow @ keys, likely)
            grad_k[tile.entries, tile.keys] += narrow.mT @ _flat(q[tile.entries, :, tile.queries])
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


def narrow_gradients(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, sums: Tensor, grad: Tensor, scale: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v, by products in their own type alone, which bfloat16's units are made for.

    q, out and grad [rows, heads, length, size], k and v [rows, kv_heads, length, size], sums [rows, heads, length]:
    the logarithms of each query's sum over its keys. What is taken off scores and gradients is taken off within the
    product, as two more columns: so they are rounded when they are small, and their errors are small too.
    """
    rows, heads, length, size = q.shape
    entries, repeat = rows * k.shape[1], heads // k.shape[1]
    whole = length + -length % STEP
    queries, back = (q.new_zeros(entries, repeat, whole, size + 2) for _ in range(2))
    keys, values = (k.new_zeros(entries, whole, size + 2) for _ in range(2))
    taken_off = sums / -scale, -(grad.float() * out).sum(-1)
    for padded, part, column in zip((queries, back), (q, grad), taken_off, strict=True):
        padded[:, :, :length, :size] = part.reshape(entries, repeat, length, size)
        padded[:, :, :length, size:] = _in_two(column, q.dtype).reshape(entries, repeat, length, 2)
    for padded, part in zip((keys, values), (k, v), strict=True):
        padded[:, :length, :size] = part.reshape(entries, length, size)
        padded[..., size:] = 1.0
    grad_q = q.new_empty(entries, repeat, whole, size)
    grad_k, grad_v = (torch.zeros(entries, whole, size, device=q.device) for _ in range(2))
    for tile in _narrow_tiles(queries, window):
        query, grad_out = (_flat(part[tile.entries, :, tile.queries]) for part in (queries, back))
        key, value = keys[tile.entries, tile.keys], values[tile.entries, tile.keys]
        likely = torch.baddbmm(query.new_empty(1, 1, 1), query, key.mT, beta=0, alpha=scale).exp_()
        tile.clear(likely.view(len(key), repeat, -1, key.shape[1]), window)
        grad_v[tile.entries, tile.keys] += likely.mT @ grad_out[..., :size]
        narrow = (grad_out @ value.mT).mul_(likely)
        made = (narrow @ key[..., :size]).mul_(scale)
        grad_q[tile.entries, :, tile.queries] = made.view(len(key), repeat, -1, size)
        grad_k[tile.entries, tile.keys] += narrow.mT @ query[..., :size]
    grad_k = grad_k.mul_(scale).to(k.dtype)
    found = grad_q[:, :, :length], grad_k[:, :length], grad_v[:, :length].to(v.dtype)
    return found[0].reshape(q.shape), found[1].reshape(k.shape), found[2].reshape(v.shape)


def _in_two(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """What each number is the sum of, as near as two of the narrower type can say it: a last dimension of two."""
    high = numbers.to(dtype)
    return torch.stack([high, (numbers - high.float()).to(dtype)], -1)


def _scores(q: Tensor, k: Tensor, tile: _Tile, scale: float, cap: float) -> Tensor:
    """[entries, repeat, queries, keys] in float32; with a cap, what it is to be multiplied with."""
    queries = q[tile.entries, :, tile.queries]
    scores = _by_head(_flat(queries) @ k[tile.entries, tile.keys].mT, queries).float()
    return scores.mul_(scale / cap).tanh_() if cap else scores.mul_(scale)


def _flat(part: Tensor) -> Tensor:
    """[entries, repeat, queries, size] -> [entries, repeat * queries, size]: the heads of a key as more queries."""
    return part.flatten(1, 2)


def _by_head(part: Tensor, like: Tensor) -> Tensor:
    """The way back."""
    return part.view(*like.shape[:3], -1)


def _tiles(q: Tensor, window: int) -> Iterator[_Tile]:
    """All queries with all keys that they see, in tiles of about _NUMBERS scores."""
    entries, repeat, length, _ = q.shape
    together = max(1, _NUMBERS // (repeat * length * length))
    widest = max(_FEWEST, math.isqrt(_NUMBERS // repeat))
    for share in _shares(entries, together):
        begin = 0
        while begin < length:
            first = max(0, begin - window + 1) if window else 0
            count = max(_FEWEST, min(widest, _NUMBERS // (repeat * max(1, begin - first))))
            end = min(length, begin + count)
            yield _Tile(share, slice(begin, end), slice(first, end))
            begin = end


def _narrow_tiles(q: Tensor, window: int) -> Iterator[_Tile]:
    """The same, of few queries each: most of what they do not see is not computed."""
    entries, repeat, length, _ = q.shape
    for share in _shares(entries, max(1, _NUMBERS // (repeat * length * _WIDE))):
        for begin in range(0, length, _WIDE):
            end = min(length, begin + _WIDE)
            first = max(0, begin - window + 1) if window else 0
            yield _Tile(share, slice(begin, end), slice(first, end))


def _shares(entries: int, most: int) -> Iterator[slice]:
    """All entries, in powers of two of them or half as many more, so that products have few sizes."""
    begin = 0
    while begin < entries:
        left = min(most, entries - begin)
        count = 1 << (left.bit_length() - 1)
        count += count // 2 if count + count // 2 <= left else 0
        yield slice(begin, begin + count)
        begin += count
