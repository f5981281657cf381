"""Rows of packed bytes to be written as numbers: some at a time, which stay in the caches until they are narrowed."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freehold.convert import dequantizer
from freehold.tuning.decoder.int8 import STEPS, TINY

_CHUNK = 1 << 17
"""Numbers dequantised at a time: 512 kB of float32."""


def spans(rows: int, columns: int) -> list[tuple[int, int]]:
    """All rows, as many at a time as are dequantised at a time."""
    step = max(1, _CHUNK // columns)
    return [(begin, min(begin + step, rows)) for begin in range(0, rows, step)]


class Filling(ABC):
    """Rows to be written as numbers of type `out`, or with `scales` as codes of 8 bits, of which a row has one each.

    Scales are found where they are 0. Rows are written as they are to be and no other way before, since another process
    may write the same ones while a third reads them.
    """

    def __init__(self, out: Tensor, scales: Tensor | None = None) -> None:
        self.wide, self.scales = out.dtype == torch.float32, None if scales is None else scales.numpy()
        narrow = out.dtype == torch.bfloat16
        self.out: NDArray[Any] = out.view(torch.int16).numpy().view(np.uint16) if narrow else out.numpy()
        self._scratch: NDArray[np.float32] | None = None

    @abstractmethod
    def make(self, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """Dequantise these rows."""

    def __call__(self) -> None:
        """Write them all."""
        for begin, end in spans(*self.out.shape):
            self.write(begin, end)

    def write(self, begin: int, end: int) -> None:
        """Write these rows, which are one of the spans."""
        out = self.out[begin:end]
        if self._scratch is None or len(self._scratch) < len(out):
            self._scratch = np.empty(out.shape, np.float32)
        wide = self._scratch[: end - begin]
        self.make(begin, end, wide)
        if self.wide:
            out[:] = wide
        elif self.scales is None:
            dequantizer.narrowing()(wide, out)
        else:
            _code(wide, self.scales[begin:end], out)


def _code(wide: NDArray[np.float32], scales: NDArray[np.float32], out: NDArray[np.int8]) -> None:
    """Rows as codes, after which `wide` is not to be used again."""
    if not scales.all():
        scales[:] = np.maximum(np.maximum(wide.max(1), -wide.min(1)) / np.float32(STEPS), TINY)[:, None]
    rates = np.float32(1) / scales
    if torch.get_num_threads() == 1:
        # Faster than numpy; with more threads it would share out every part among all of them.
        numbers = torch.from_numpy(wide).mul_(torch.from_numpy(rates)).round_()
        torch.from_numpy(out).copy_(numbers)
    else:
        wide *= rates
        np.rint(wide, out=wide)
        np.copyto(out, wide, casting="unsafe")
