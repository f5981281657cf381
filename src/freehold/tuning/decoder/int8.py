"""Products with frozen matrices in whole numbers of 8 bits, which processors that have them make twice as fast.

Tokens are rounded by themselves, to 127 steps of their largest number, and so are the rows of a matrix. A few columns
that stand out in all tokens, as large models have them, would leave nothing to the others: they are multiplied as they
are. Source: Dettmers et al. 2022, arXiv 2208.07339; for the backward pass Wortsman et al. 2023, arXiv 2304.13013.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.weights import Matrix

STEPS = 127.0
TINY = 1e-30
"""What rows of zeros are divided by."""
_CACHED = 1 << 16
"""Numbers that are worked on at a time: 256 kB of them in float32."""
_TOKENS = 1024
"""That are multiplied at a time: of their sums there is room for no more."""
_LOOKED = 64
"""Tokens, from the first to the last, among which columns that stand out are looked for: they do so in all."""
_FAR = 6.0
"""How many times their root mean square numbers are that stand out."""
_MOST = 32
"""Columns that are multiplied as they are: a product with so few costs next to nothing."""


class Rounded(NamedTuple):
    """Rows of numbers: codes * scales. int8 [rows, columns], float32 [rows, 1]."""

    codes: Tensor
    scales: Tensor


class Operand(NamedTuple):
    """The left side of a product: rows, rounded, and what stands out of them, by its columns."""

    rounded: Rounded
    columns: Tensor
    apart: Tensor


@runtime_checkable
class Coded(Protocol):
    """A frozen matrix that is rounded on the way, without being dense first."""

    def rounded(self) -> Rounded:
        """All of it, until another matrix is asked for."""


class Int8:
    """A frozen matrix with which products are made in 8 bits; all else is as it is without.

    One that is dense anyway is rounded once, and kept beside it.
    """

    trained = None

    def __init__(self, matrix: Matrix, buffers: Buffers) -> None:
        self.matrix, self.shape, self._buffers = matrix, matrix.shape, buffers
        if isinstance(matrix, Coded):
            self._rounded: Callable[[], Rounded] = matrix.rounded
        else:
            kept = rounded(matrix.dense(torch.float32))
            self._rounded = lambda: kept

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, as it is."""
        return self.matrix.dense(dtype)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows, as they are."""
        return self.matrix.rows(ids, dtype)

    def times(self, x: Operand) -> Tensor:
        """x @ matrix.T. [tokens, in] -> [tokens, out], in the type of what stands apart."""
        matrix, dtype = self._rounded(), x.apart.dtype
        made = self._product(x.rounded, matrix.codes.T, dtype, matrix.scales.T)
        if not len(x.columns):
            return made
        beside = matrix.codes[:, x.columns].float().mul_(matrix.scales)
        return made.addmm_(x.apart, beside.to(dtype).T)

    def back(self, grad: Tensor) -> Tensor:
        """grad @ matrix. [tokens, out] -> [tokens, in]."""
        matrix = self._rounded()
        return self._product(rounded(grad, matrix.scales.T), matrix.codes, grad.dtype)

    def _product(self, left: Rounded, right: Tensor, dtype: torch.dtype, factors: Tensor | None = None) -> Tensor:
        """With codes on the right, and each of its columns multiplied by one of `factors`, [1, columns]."""
        made = torch.empty(len(left.codes), right.shape[1], dtype=dtype)
        if not len(made):
            return made
        count = -(-len(made) // _TOKENS)
        for codes, scales, out in zip(*(torch.chunk(each, count) for each in (*left, made)), strict=True):
            sums = self._buffers.buffer(out.shape[0], out.shape[1], torch.int32)
            torch._int_mm(codes, right, out=sums)
            for rows, wide in _parts(sums):
                wide.mul_(scales[rows])
                out[rows] = wide if factors is None else wide.mul_(factors)
        return made


def operand(x: Tensor) -> Operand:
    """The left side of a product."""
    some = x[:: max(1, len(x) // _LOOKED)].float()
    peaks = some.abs().amax(0) if len(x) else some.new_zeros(x.shape[1])
    far = peaks > _FAR * torch.linalg.vector_norm(some) / max(1, some.numel()) ** 0.5
    columns = peaks.topk(min(int(far.sum()), _MOST)).indices
    return Operand(rounded(x, without=columns), columns, x[:, columns])


def rounded(x: Tensor, factors: Tensor | None = None, without: Tensor | None = None) -> Rounded:
    """Each row by itself, to the nearest step.

    Of rows that are multiplied by `factors`, [1, columns], first, and that have zeros in the columns `without`.
    """
    codes = torch.empty(x.shape, dtype=torch.int8)
    scales = torch.empty(len(x), 1)
    for rows, wide in _parts(x):
        if factors is not None:
            wide.mul_(factors)
        if without is not None and len(without):
            wide.index_fill_(1, without, 0.0)
        torch.div(wide.abs().amax(1, keepdim=True), STEPS, out=scales[rows]).clamp_min_(TINY)
        codes[rows] = wide.mul_(scales[rows].reciprocal()).round_()
    return Rounded(codes, scales)


def _parts(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some rows at a time, as a copy in float32, which stays in the caches from one operation to the next."""
    step = max(1, _CACHED // max(1, x.shape[1]))
    room = torch.empty(min(step, len(x)), x.shape[1])
    for begin in range(0, len(x), step):
        part = x[begin : begin + step]
        yield slice(begin, begin + step), room[: len(part)].copy_(part)
