"""Matrices whose packed bytes lie in the memory of the device that computes: moved there once, dequantised there.

From the host's memory each would cross the bus again at every use, twice a layer and step.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from freehold.convert.ggml import LAYOUTS
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.fused import fused, fuses
from freehold.tuning.decoder.quantised import Bytes, Order, Parted
from freehold.tuning.decoder.unpacking import UNPACK, Unpack

PIECE = 1 << 22
"""Numbers dequantised at a time: 16 MB of float32, beside the codes that they are made of."""


def _whole(unpack: Unpack) -> Callable[[Tensor, torch.dtype], Tensor]:
    """The blocks of a type to numbers of another type, [blocks, numbers of a block]."""
    return fused(lambda blocks, dtype: unpack(blocks).to(dtype))


_FUSED = {name: _whole(unpack) for name, unpack in UNPACK.items()}


class Resident(Parted):
    """A frozen matrix of a GGUF file. Arguments as those of `Quantised`; rows are put into their order on the way."""

    def __init__(self, packed: Bytes, type_name: str, columns: int, order: Order | None, buffers: Buffers) -> None:
        self.shape = (len(packed), columns)
        self._buffers, self._unpack, self._size = buffers, UNPACK[type_name], LAYOUTS[type_name].size
        self._fused = _FUSED[type_name]
        self._packed = torch.from_numpy(np.array(packed) if order is None else packed[order]).to(buffers.device)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows; the others stay packed."""
        out = torch.empty(len(ids), self.shape[1], dtype=dtype, device=self._buffers.device)
        return self._filled(self._packed.index_select(0, ids), out)

    def _part(self, begin: int, end: int, dtype: torch.dtype) -> Tensor:
        packed = self._packed[begin:end]
        if fuses(packed):
            return self._fused(packed.view(-1, self._size), dtype).view(end - begin, self.shape[1])
        return self._filled(packed, self._buffers.buffer(end - begin, self.shape[1], dtype))

    def _filled(self, packed: Tensor, out: Tensor) -> Tensor:
        rows, columns = out.shape
        step = max(1, PIECE // columns)
        for begin in range(0, rows, step):
            part = out[begin : begin + step]
            part.copy_(self._unpack(packed[begin : begin + step].view(-1, self._size)).view(part.shape))
        return out


class ResidentBlocks:
    """A frozen matrix of codes of 4 bits in blocks with a scale each: number = level of its code * scale of its block.

    packed [blocks, half as many bytes], the first code of each in its upper half; scales [blocks, 1]; 16 levels.
    """

    trained = None

    def __init__(
        self, packed: Tensor, scales: Tensor, levels: tuple[float, ...], shape: tuple[int, int], buffers: Buffers
    ) -> None:
        self.shape, self._buffers = shape, buffers
        self._packed, self._scales = packed.to(buffers.device), scales.to(buffers.device)
        self._constants, self._levels = levels, torch.tensor(levels, device=buffers.device)
        self._block = 2 * packed.shape[1]
        first, second = self._levels.repeat_interleave(16), self._levels.repeat(16)
        self._pairs = torch.stack([first, second], 1)
        """The two numbers of each byte."""

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, until the next matrix of these buffers is dense."""
        rows, columns = self.shape
        if fuses(self._packed):
            return (
                _levelled(self._packed, self._scales, self._constants, dtype)
                .view(-1)[: rows * columns]
                .view(self.shape)
            )
        out = self._buffers.buffer(len(self._packed), self._block, dtype)
        step = max(1, PIECE // self._block)
        for begin in range(0, len(out), step):
            packed, scales = (part[begin : begin + step] for part in (self._packed, self._scales))
            values = self._pairs.index_select(0, packed.flatten().int()).view(len(packed), -1)
            out[begin : begin + step].copy_(values.mul_(scales))
        return out.view(-1)[: rows * columns].view(rows, columns)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows; the others stay packed. A row may begin and end within a block."""
        columns = self.shape[1]
        places = ids[:, None] * columns + torch.arange(columns, device=ids.device)
        packed = self._packed.flatten()[places // 2]
        codes = torch.where(places % 2 == 0, packed >> 4, packed & 15)
        values = self._levels.index_select(0, codes.flatten().int()).view(codes.shape)
        return values.mul_(self._scales.flatten()[places // self._block]).to(dtype)


@fused
def _levelled(packed: Tensor, scales: Tensor, levels: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """[blocks, half as many bytes] -> [blocks, numbers]."""
    codes = torch.stack([packed >> 4, packed & 15], 2).flatten(1)
    return (_chosen(codes, levels) * scales).to(dtype)


def _chosen(codes: Tensor, levels: tuple[float, ...]) -> Tensor:
    """The levels of codes, bit by bit: a kernel computes it several times as fast as it looks them up."""
    half = len(levels) // 2
    upper, lower = levels[half:], levels[:half]
    if half == 1:
        return torch.where(codes & 1 != 0, upper[0], lower[0])
    return torch.where(codes & half != 0, _chosen(codes, upper), _chosen(codes, lower))
