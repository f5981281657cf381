"""Matrices that stay quantised: what a product needs of one is dequantised for it, and again for the backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freehold.convert import dequantizer
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.common import Common, zeros
from freehold.tuning.decoder.filling import Filling
from freehold.tuning.decoder.int8 import Rounded

_ALONE = 1 << 18
"""Numbers below which a second thread costs more than it brings."""

Bytes = NDArray[np.uint8]
Order = NDArray[np.int64]


Part = Callable[[int, int, Tensor], Filling]
"""What writes rows, from one to another, of a matrix that is given as a whole."""


class Workbench:
    """Where the processor makes matrices dense for `device`.

    `resident` has the device's own buffers where packed bytes lie in its memory too, which they do on all but CPUs.
    Processes that need the same matrices make them in `common`.
    """

    def __init__(
        self, threads: int, device: torch.device, *, resident: bool | None = None, common: Common | None = None
    ) -> None:
        self.threads, self.device = max(1, threads), device
        self.resident = Buffers(device) if (device.type != "cpu" if resident is None else resident) else None
        self.common = common or Common()
        self._pool = ThreadPoolExecutor(self.threads, "dequantise")
        self._buffers = Buffers(torch.device("cpu"))

    def whole(self, number: int, shape: tuple[int, int], dtype: torch.dtype, part: Part) -> Tensor:
        """A matrix in the host's memory, by what writes it; until the next one. `number` is that of `common`, or 0."""
        made = self.common.make(number, shape, dtype, lambda out: part(0, shape[0], out)) if number else None
        return self.made(shape, dtype, part) if made is None else made

    def made(self, shape: tuple[int, int], dtype: torch.dtype, part: Part) -> Tensor:
        """The same by this process alone."""
        return self.fill(self._buffers.buffer(*shape, dtype), part)

    def fill(self, out: Tensor, part: Part) -> Tensor:
        """The same of what is to be kept."""
        self._do([part(begin, end, out) for begin, end in self._parts(*out.shape)])
        return out

    def _parts(self, rows: int, columns: int) -> list[tuple[int, int]]:
        """Ranges of rows, one for each thread that is worth it, of those that the one that asks has."""
        count = min(self.threads, torch.get_num_threads(), rows) if rows * columns >= _ALONE else 1
        edges = [rows * part // count for part in range(count + 1)]
        return list(pairwise(edges))

    def _do(self, work: Sequence[Filling]) -> None:
        """Do it all, the first part in this thread."""
        waiting: list[Future[None]] = [self._pool.submit(part) for part in work[1:]]
        work[0]()
        for each in waiting:
            each.result()


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
    One that is `common` is made together with other processes, where there are any. `leave` is called whenever
    `packed` has been read and is not needed for a while.
    """

    def __init__(
        self,
        packed: Bytes,
        type_name: str,
        columns: int,
        order: Order | None,
        bench: Workbench,
        *,
        common: bool = False,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.shape = (len(packed), columns)
        self._packed, self._order, self._bench, self._leave = packed, order, bench, leave
        self._kernel = dequantizer.kernel(type_name)
        self._number = bench.common.expect(*self.shape) if common else 0
        self._scales = zeros(len(packed))

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, until the next matrix of this bench is dense."""
        return self._whole(dtype).to(self._bench.device)

    def rounded(self) -> Rounded:
        """All of it in 8 bits, until the next matrix of this bench is dense."""
        return Rounded(self._whole(torch.int8, self._scales), self._scales)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows; of the others nothing is read."""
        wanted = ids.cpu().numpy()
        out = torch.empty(len(wanted), self.shape[1], dtype=dtype)
        part = _part(self._kernel, self._packed, wanted if self._order is None else self._order[wanted])
        return self._read(self._bench.fill(out, part)).to(self._bench.device)

    def _whole(self, dtype: torch.dtype, scales: Tensor | None = None) -> Tensor:
        part = _part(self._kernel, self._packed, self._order, scales)
        return self._read(self._bench.whole(self._number, self.shape, dtype, part))

    def _part(self, begin: int, end: int, dtype: torch.dtype) -> Tensor:
        order = None if self._order is None else self._order[begin:end]
        part = _part(self._kernel, self._packed[begin:end] if order is None else self._packed, order)
        return self._read(self._bench.made((end - begin, self.shape[1]), dtype, part)).to(self._bench.device)

    def _read(self, made: Tensor) -> Tensor:
        """What was made of the packed bytes, which are left now."""
        self._leave()
        return made


def _part(kernel: dequantizer.Kernel, packed: Bytes, order: Order | None, scales: Tensor | None = None) -> Part:
    def part(begin: int, end: int, out: Tensor) -> Filling:
        rows, rates = out[begin:end], None if scales is None else scales[begin:end]
        if order is None:
            return Unpacking(kernel, packed[begin:end], None, rows, rates)
        return Unpacking(kernel, packed, order[begin:end], rows, rates)

    return part
