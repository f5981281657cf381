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
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.int8 import STEPS, TINY, Rounded

_CHUNK = 1 << 17
"""Numbers dequantised at a time: 512 kB of float32, which stay in the cache until they are narrowed."""
_ALONE = 1 << 18
"""Numbers below which a second thread costs more than it brings."""

Bytes = NDArray[np.uint8]
Order = NDArray[np.int64]


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


class Filling(ABC):
    """Rows to be written as numbers of type `out`, or with `scales` as codes of 8 bits, of which a row has one each."""

    def __init__(self, out: Tensor, scales: Tensor | None = None) -> None:
        self.wide, self.scales = out.dtype == torch.float32, None if scales is None else scales.numpy()
        narrow = out.dtype == torch.bfloat16
        self.out: NDArray[Any] = out.view(torch.int16).numpy().view(np.uint16) if narrow else out.numpy()

    @abstractmethod
    def make(self, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """Dequantise these rows."""

    def __call__(self) -> None:
        """Write them, some rows at a time."""
        rows, columns = self.out.shape
        step = max(1, _CHUNK // columns)
        scratch = None if self.wide else np.empty((min(step, rows), columns), np.float32)
        for begin in range(0, rows, step):
            end = min(begin + step, rows)
            if scratch is None:
                self.make(begin, end, self.out[begin:end])
                continue
            wide = scratch[: end - begin]
            self.make(begin, end, wide)
            if self.scales is None:
                dequantizer.narrowing()(wide, self.out[begin:end])
            else:
                _code(wide, self.scales[begin:end], self.out[begin:end])


def _code(wide: NDArray[np.float32], scales: NDArray[np.float32], out: NDArray[np.int8]) -> None:
    """Rows as codes, in place of which `wide` is not to be used again; with scales that are found if they are 0."""
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


class Unpacking(Filling):
    """Rows of a GGUF file's bytes."""

    def __init__(
        self, kernel: dequantizer.Kernel, packed: Bytes, order: Order | None, out: Tensor, scales: Tensor | None = None
    ) -> None:
        super().__init__(out, scales)
        self.kernel, self.packed, self.order = kernel, packed, order

    def make(self, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """By ggml's kernel."""
        self.kernel(self.packed[begin:end] if self.order is None else self.packed[self.order[begin:end]], out)


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
        self._scales: Tensor | None = None

    def rounded(self) -> Rounded:
        """All of it in 8 bits, until the next matrix of this bench is dense. Scales are found once."""
        if self._scales is None:
            self._scales = torch.zeros(self.shape[0], 1)
        out = self._bench.buffer(*self.shape, torch.int8)
        self._fill(self._packed, self._order, out, self._scales)
        return Rounded(out, self._scales)

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

    def _fill(self, packed: Bytes, order: Order | None, out: Tensor, scales: Tensor | None = None) -> None:
        self._bench.do(
            *(
                Unpacking(
                    self._kernel,
                    packed[begin:end] if order is None else packed,
                    None if order is None else order[begin:end],
                    out[begin:end],
                    None if scales is None else scales[begin:end],
                )
                for begin, end in self._bench.parts(*out.shape)
            )
        )
