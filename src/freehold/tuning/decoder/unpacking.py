"""Blocks of GGUF's types to numbers, by torch, on whatever device holds them.

Source of the layouts: ggml-common.h and ggml-quants.c of llama.cpp, quants.py of the gguf package. Every product and
every difference is an operation of its own, in their order and in float32: the numbers are the processor's to the bit.

IQ2 and IQ3 types are missing: they are looked up in grids of up to 1,024 entries, which only the libraries hold. They
are dequantised by the processor, and copied, at each use.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

Unpack = Callable[[Tensor], Tensor]
"""uint8 [blocks, bytes of a block] -> float32 [blocks, numbers of a block]."""
_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""Of IQ4."""


def _half(blocks: Tensor, at: int) -> Tensor:
    """A number in F16, [blocks, 1]. A copy of its own, since bytes in the middle of a block may lie at odd places."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _split(packed: Tensor, width: int) -> Tensor:
    """Codes of `width` bits, the lowest first: [blocks, groups, size] -> [blocks, groups, 8 / width, size]."""
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device)
    return (packed[:, :, None] >> shifts[:, None]) & ((1 << width) - 1)


def _halves(packed: Tensor) -> Tensor:
    """[blocks, bytes] -> [blocks, 2 * bytes]: all lower halves, then all upper ones."""
    return _split(packed[:, None], 4).flatten(1)


def _in_turn(packed: Tensor, width: int) -> Tensor:
    """[blocks, bytes] -> [blocks, codes]: all of a byte, the lowest bits first, then those of the next."""
    return _split(packed[:, :, None], width).flatten(1)


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_halves(blocks[:, 2:]).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _halves(blocks[:, 4:]).float() + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    codes = _halves(blocks[:, 6:]) | _in_turn(blocks[:, 2:6], 1) << 4
    return _half(blocks, 0) * (codes.float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    codes = _halves(blocks[:, 8:]) | _in_turn(blocks[:, 4:8], 1) << 4
    return _half(blocks, 0) * codes.float() + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float() * _half(blocks, 0)


def _q2_k(blocks: Tensor) -> Tensor:
    scales = blocks[:, :16]
    codes = _split(blocks[:, 16:80].view(-1, 2, 32), 2).view(-1, 16, 16)
    rate = _half(blocks, 80) * (scales & 15).float()
    least = _half(blocks, 82) * (scales >> 4).float()
    return (rate[..., None] * codes.float() - least[..., None]).flatten(1)


def _q3_k(blocks: Tensor) -> Tensor:
    low = _split(blocks[:, 32:96].view(-1, 2, 32), 2).view(-1, 16, 16)
    high = _split(blocks[:, None, :32], 1).view(-1, 16, 16)
    scales = _halves(blocks[:, 96:104]) | _split(blocks[:, None, 104:108], 2).flatten(1) << 4
    rate = _half(blocks, 108) * (scales.float() - 32)
    # Four is taken off where the high bit is not set.
    return (rate[..., None] * (low.float() - ((high ^ 1) << 2).float())).flatten(1)


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and minimums of Q4_K and Q5_K, [blocks, 12] -> twice [blocks, 8] of 6 bits."""
    first, second, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([first & 63, rest & 15 | first >> 2 & 48], 1)
    return scales.float(), torch.cat([second & 63, rest >> 4 | second >> 2 & 48], 1).float()


def _with_minimums(blocks: Tensor, codes: Tensor) -> Tensor:
    """codes [blocks, 8, 32]."""
    scales, minimums = _six_bits(blocks[:, 4:16])
    rate, least = _half(blocks, 0) * scales, _half(blocks, 2) * minimums
    return (rate[..., None] * codes.float() - least[..., None]).flatten(1)


def _q4_k(blocks: Tensor) -> Tensor:
    return _with_minimums(blocks, _split(blocks[:, 16:].view(-1, 4, 32), 4).view(-1, 8, 32))


def _q5_k(blocks: Tensor) -> Tensor:
    low = _split(blocks[:, 48:].view(-1, 4, 32), 4).view(-1, 8, 32)
    return _with_minimums(blocks, low | _split(blocks[:, None, 16:48], 1).view(-1, 8, 32) << 4)


def _q6_k(blocks: Tensor) -> Tensor:
    low = _split(blocks[:, :128].view(-1, 2, 64), 4).view(-1, 16, 16)
    high = _split(blocks[:, 128:192].view(-1, 2, 32), 2).view(-1, 16, 16)
    rate = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return (rate[..., None] * ((low | high << 4).float() - 32)).flatten(1)


@lru_cache(maxsize=4)
def _levels(device: torch.device) -> Tensor:
    return torch.tensor(_LEVELS, dtype=torch.float32, device=device)


def _level(codes: Tensor) -> Tensor:
    return _levels(codes.device).index_select(0, codes.flatten().int()).view(codes.shape)


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _level(_halves(blocks[:, 2:]))


def _iq4_xs(blocks: Tensor) -> Tensor:
    codes = _split(blocks[:, 8:].view(-1, 8, 16), 4).view(-1, 8, 32)
    scales = _in_turn(blocks[:, 4:8], 4) | _in_turn(blocks[:, 2:4], 2) << 4
    rate = _half(blocks, 0) * (scales.float() - 32)
    return (rate[..., None] * _level(codes)).flatten(1)


UNPACK: dict[str, Unpack] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs,
}  # fmt: skip
"""By ggml's names of the types."""
