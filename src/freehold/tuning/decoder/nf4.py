"""NF4: a base's projections in 4 bits a number, at the quantiles of a normal distribution, in blocks with a scale each.

Source: Dettmers et al. 2023, arXiv 2305.14314, appendix E; without the second quantisation, of the scales.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freehold.tuning.decoder.common import Common, zeros
from freehold.tuning.decoder.filling import Filling
from freehold.tuning.decoder.int8 import Rounded, rounded
from freehold.tuning.decoder.quantised import Part, Workbench
from freehold.tuning.decoder.resident import ResidentBlocks
from freehold.tuning.decoder.weights import Matrix, Weights, open_weights

BLOCK = 64
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_PIECE = 1 << 16
"""Blocks quantised at a time."""
_LEVELS = np.array(LEVELS, np.float32)
_PAIRS: NDArray[np.uint64] = np.ascontiguousarray(np.stack([_LEVELS.repeat(16), np.tile(_LEVELS, 16)], axis=1)).view(
    np.uint64
)[:, 0]
"""The two numbers of each byte, the first one in its upper half."""


def quantised(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor's numbers in their order as uint8 [blocks, 32], and scales [blocks, 1]; the last block is filled up.

    Made where the tensor lies.
    """
    flat, place = tensor.flatten(), tensor.device
    blocks = -(-len(flat) // BLOCK)
    packed = torch.empty(blocks, BLOCK // 2, dtype=torch.uint8, device=place)
    scales = torch.empty(blocks, 1, device=place)
    borders = torch.from_numpy((_LEVELS[1:] + _LEVELS[:-1]) / 2).to(place)
    for begin in range(0, blocks, _PIECE):
        part = flat[begin * BLOCK : (begin + _PIECE) * BLOCK].float()
        values = torch.nn.functional.pad(part, (0, -len(part) % BLOCK)).view(-1, BLOCK)
        scale = values.abs().amax(1, keepdim=True)
        codes = torch.bucketize(values / scale.clamp_min(1e-30), borders, out_int32=True).to(torch.uint8)
        rows = slice(begin, begin + len(values))
        packed[rows] = codes[:, ::2] << 4 | codes[:, 1::2]
        scales[rows] = scale
    return packed, scales


class Nf4:
    """A frozen matrix in NF4."""

    trained = None

    def __init__(self, tensor: Tensor, bench: Workbench) -> None:
        self.shape = (tensor.shape[0], tensor.shape[1])
        self._packed, self._scales = (part.numpy() for part in quantised(tensor))
        self._bench = bench
        # A row of blocks, where it has whole ones: of others no one knows where a row begins.
        rows, columns = self.shape
        self._lines = (rows, columns) if columns % BLOCK == 0 else (len(self._packed), BLOCK)
        self._number = bench.common.expect(*self._lines)
        self._rounding = zeros(rows)

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, until the next matrix of this bench is dense."""
        rows, columns = self.shape
        out = self._bench.whole(self._number, self._lines, dtype, self._part())
        return out.view(-1)[: rows * columns].view(rows, columns).to(self._bench.device)

    def rounded(self) -> Rounded:
        """All of it in 8 bits, until the next matrix of this bench is dense."""
        if self._lines != self.shape:
            return rounded(self.dense(torch.float32))
        return Rounded(
            self._bench.whole(self._number, self.shape, torch.int8, self._part(self._rounding)), self._rounding
        )

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows."""
        return self.dense(dtype)[ids].clone()

    def _part(self, rounding: Tensor | None = None) -> Part:
        blocks = self._lines[1] // BLOCK

        def part(begin: int, end: int, out: Tensor) -> Filling:
            lines, rates = slice(begin * blocks, end * blocks), None if rounding is None else rounding[begin:end]
            return Unpacking(self._packed[lines], self._scales[lines], out[begin:end], rates)

        return part


class Unpacking(Filling):
    """Blocks of as many as make up a row."""

    def __init__(
        self, packed: NDArray[np.uint8], scales: NDArray[np.float32], out: Tensor, rounding: Tensor | None = None
    ) -> None:
        super().__init__(out, rounding)
        self.packed, self.factors, self.blocks = packed, scales, len(packed) // len(out)

    def make(self, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """Two numbers at a time."""
        rows = slice(begin * self.blocks, end * self.blocks)
        wide = out.reshape(-1, BLOCK)
        np.take(_PAIRS, self.packed[rows], out=wide.view(np.uint64), mode="clip")
        wide *= self.factors[rows]


class Nf4Weights(Weights):
    """A folder's weights of which the layers' matrices are quantised; embedding, head and norms stay as they are."""

    def __init__(self, plain: Weights, bench: Workbench) -> None:
        super().__init__(plain.tensors, plain.origin)
        self._bench = bench

    def matrix(self, name: str, rows: int, columns: int, device: torch.device, *, trained: bool) -> Matrix:
        """A matrix, in NF4 if it is a layer's and frozen."""
        if trained or ".layers." not in name:
            return super().matrix(name, rows, columns, device, trained=trained)
        tensor = self.take(name, rows, columns)
        if self._bench.resident is None:
            return Nf4(tensor, self._bench)
        made = quantised(tensor.to(self._bench.resident.device))
        return ResidentBlocks(*made, LEVELS, (rows, columns), self._bench.resident)


def open_nf4(
    folder: Path, threads: int, device: torch.device, *, resident: bool | None = None, common: Common | None = None
) -> Nf4Weights:
    """The weights of a folder, each matrix quantised when it is taken. Raises BadModelFile."""
    return Nf4Weights(open_weights(folder), Workbench(threads, device, resident=resident, common=common))
