"""Matrices that stay quantised: what a product needs of one is dequantised for it, and again for the backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freehold.convert import dequantizer

_CHUNK = 1 << 17
"""Numbers dequantised at a time: 512 kB of float32, which stay in the cache until they are narrowed."""
_ALONE = 1 << 18
"""Numbers below which a second thread costs more than it brings."""

Bytes = NDArray[np.uint8]
Order = NDArray[np.int64]


class Buffers:
    """Room for matrices of one model, one at a time: a buffer for each type, as large as the largest."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffers: dict[torch.dtype, Tensor] = {}

    def buffer(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """Room for a matrix, [rows, columns]; what it held before is gone."""
        found = self._buffers.get(dtype)
        if found is None or found.numel() < rows * columns:
            found = self._buffers[dtype] = torch.empty(rows * columns, dtype=dtype, device=self.device)
        return found[: rows * columns].view(rows, columns)


class Workbench:
    """Where the processor makes matrices dense for `device`.

    `resident` has the device's own buffers where packed bytes lie in its memory too, which they do on all but CPUs.
    """

    def __init__(self, threads: int, device: torch.device, *, resident: bool | None = None) -> None:
        self.threads, self.device = max(1, threads), device
        self.resident = Buffers(device) if (device.type != "cpu" if resident is None else resident) else None
        self._pool = ThreadPoolExecutor(self.threads, "dequantise")
        self._buffers = Buffers(torch.device("cpu"))

    def buffer(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """Room for a matrix, [rows, columns], in the host's memory; what it held before is gone."""
        return self._buffers.buffer(rows, columns, dtype)

    def parts(self, rows: int, columns: int) -> list[tuple[int, int]]:
        """Ranges of rows, one for each thread that is worth it, of those that the one that asks has."""
        count = min(self.threads, torch.get_num_threads(), rows) if rows * columns >= _ALONE else 1
        edges = [rows * part // count for part in range(count + 1)]
        return list(pairwise(edges))

    def do(self, *work: Callable[[], None]) -> None:
        """Do it all, the first part in this thread."""
        waiting: list[Future[None]] = [self._pool.submit(part) for part in work[1:]]
        work[0]()
        for each in waiting:
            each.result()


class Filling:
    """Rows of packed bytes, to be written as numbers."""

    def __init__(self, kernel: dequantizer.Kernel, packed: Bytes, order: Order | None, out: Tensor) -> None:
        self.kernel, self.packed, self.order = kernel, packed, order
        self.wide = out.dtype == torch.float32
        self.out: NDArray[Any] = out.numpy() if self.wide else out.view(torch.int16).numpy().view(np.uint16)

    def __call__(self) -> None:
        """Write them, some rows at a time."""
        rows, columns = self.out.shape
        step = max(1, _CHUNK // columns)
        scratch = None if self.wide else np.empty((min(step, rows), columns), np.float32)
        for begin in range(0, rows, step):
            end = min(begin + step, rows)
            packed = self.packed[begin:end] if self.order is None else self.packed[self.order[begin:end]]
            if scratch is None:
                self.kernel(packed, self.out[begin:end])
            else:
                self.kernel(packed, scratch[: end - begin])
                dequantizer.narrowing()(scratch[: end - begin], self.out[begin:end])


class Parted(ABC):
    """A frozen matrix of which some rows at a time are made dense, in buffers that the next part is made in too."""

    trained = None
    shape: tuple[int, int]

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, until the next matrix in these buffers is dense."""
        return self._part(0, self.shape[0], dtype)

    def pieces(self, dtype: torch.dtype, rows: int) -> Iterator[tuple[int, Tensor]]:
        """All of it, `rows` at a time with the number of the first one; each until the next."""
        for begin in range(0, self.shape[0], rows):
            yield begin, self._part(begin, min(begin + rows, self.shape[0]), dtype)

    @abstractmethod
    def _part(self, begin: int, end: int, dtype: torch.dtype) -> Tensor:
        """These rows."""


class Quantised(Parted):
    """A frozen matrix as it lies in a GGUF file, mapped into memory.

    `packed` is [rows, bytes of a row]; `order` says which of them each row of the matrix is, None for all in order.
    """

    def __init__(self, packed: Bytes, type_name: str, columns: int, order: Order | None, bench: Workbench) -> None:
        self.shape = (len(packed), columns)
        self._packed, self._order, self._bench = packed, order, bench
        self._kernel = dequantizer.kernel(type_name)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows; of the others nothing is read."""
        wanted = ids.cpu().numpy()
        out = torch.empty(len(wanted), self.shape[1], dtype=dtype)
        self._fill(self._packed, wanted if self._order is None else self._order[wanted], out)
        return out.to(self._bench.device)

    def _part(self, begin: int, end: int, dtype: torch.dtype) -> Tensor:
        out = self._bench.buffer(end - begin, self.shape[1], dtype)
        order = None if self._order is None else self._order[begin:end]
        self._fill(self._packed[begin:end] if order is None else self._packed, order, out)
        return out.to(self._bench.device)

    def _fill(self, packed: Bytes, order: Order | None, out: Tensor) -> None:
        self._bench.do(
            *(
                Filling(
                    self._kernel,
                    packed[begin:end] if order is None else packed,
                    None if order is None else order[begin:end],
                    out[begin:end],
                )
                for begin, end in self._bench.parts(*out.shape)
            )
        )
