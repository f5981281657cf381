"""The weights of a GGUF file by their names in transformers: quantised matrices stay as they are."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freehold.convert import dequantizer, origin
from freehold.convert.plan import TensorPlan
from freehold.core.errors import Unsupported
from freehold.formats.gguf import GgufHeader, TensorInfo
from freehold.formats.reading import shown
from freehold.tuning.decoder.common import Common
from freehold.tuning.decoder.mapped import Mapped
from freehold.tuning.decoder.quantised import Order, Quantised, Workbench
from freehold.tuning.decoder.resident import Resident
from freehold.tuning.decoder.unpacking import UNPACK
from freehold.tuning.decoder.weights import Matrix, Plain, Weights

_PLAIN: dict[str, tuple[Any, torch.dtype]] = {
    "F32": (np.dtype("<f4"), torch.float32),
    "F16": (np.dtype("<f2"), torch.float16),
    "BF16": (np.dtype("<i2"), torch.bfloat16),
}
"""Types that torch has, and how numpy maps them."""
SUPPORTED = (*_PLAIN, *dequantizer.SCALES)


class Ordered(Plain):
    """A frozen matrix of floating-point numbers whose rows lie in another order."""

    def __init__(self, tensor: Tensor, order: Tensor) -> None:
        super().__init__(tensor)
        self.order = order

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, cast."""
        return self.tensor.index_select(0, self.order).to(dtype)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows, cast."""
        return super().rows(self.order[ids], dtype)

    def pieces(self, dtype: torch.dtype, rows: int) -> Iterator[tuple[int, Tensor]]:
        """All of it, `rows` at a time with the number of the first one, cast."""
        for begin, order in zip(range(0, len(self.order), rows), torch.split(self.order, rows), strict=True):
            yield begin, self.tensor.index_select(0, order).to(dtype)


class GgufWeights(Weights):
    """The tensors of a GGUF file, of which nothing is read yet."""

    def __init__(self, found: origin.Origin, bench: Workbench) -> None:
        super().__init__({}, found.header.path)
        self._header, self._bench = found.header, bench
        self._file = Mapped(found.header.path)
        infos = {tensor.name: tensor for tensor in found.header.tensors}
        self._places = {tensor.source: (tensor, infos[tensor.name]) for tensor in found.plan.tensors if tensor.source}
        _check_types(found.header)

    def maybe(self, name: str, *shape: int) -> Tensor | None:
        """A vector in float32, or None where there is no such tensor."""
        place = self._places.get(name)
        if place is None:
            return None
        plan, info = self._place(name, shape)
        values = np.empty((1, info.elements), np.float32)
        if info.type in _PLAIN:
            values[0] = self._tensor(info).float().numpy().ravel()
        else:
            dequantizer.kernel(info.type)(self._packed(info, 1), values)
        order = _order(plan)
        vector = values.reshape(shape) if order is None else values.reshape(shape)[order]
        return torch.from_numpy(vector - np.float32(plan.plus))

    def matrix(self, name: str, rows: int, columns: int, device: torch.device, *, trained: bool) -> Matrix:
        """A matrix, dequantised when it is used. Raises Unsupported where it is to be trained itself."""
        if trained:
            raise Unsupported(f"{shown(self.origin, 400)} is a GGUF file, which stays as it is", "Use method = 'lora'")
        plan, info = self._place(name, (rows, columns))
        order = _order(plan)
        if info.type in _PLAIN:
            tensor = self._tensor(info).to(device)
            return Plain(tensor) if order is None else Ordered(tensor, torch.from_numpy(order).to(device))
        packed, leave = self._packed(info, rows), partial(self._file.leave, self._begin(info), info.size)
        if info.type in UNPACK and self._bench.resident is not None:
            moved = Resident(packed, info.type, columns, order, self._bench.resident)
            leave()
            return moved
        common = ".layers." in name
        return Quantised(packed, info.type, columns, order, self._bench, common=common, leave=leave)

    def frequencies(self, size: int) -> Tensor | None:
        """What rotary frequencies are divided by, [size], where a file says so."""
        info = next((tensor for tensor in self._header.tensors if tensor.name == origin.FREQUENCIES), None)
        if info is None:
            return None
        if info.type != "F32" or info.shape != (size,):
            raise self._other(info.name, (size,), info.shape)
        return self._tensor(info).clone()

    def rest(self) -> list[str]:
        """What was not taken."""
        return sorted(self._places.keys() - self._taken)

    def _place(self, name: str, shape: tuple[int, ...]) -> tuple[TensorPlan, TensorInfo]:
        if name not in self._places:
            raise self._lacks(name)
        plan, info = self._places[name]
        if plan.shape != shape:
            raise self._other(name, shape, plan.shape)
        self._taken.add(name)
        return plan, info

    def _packed(self, info: TensorInfo, rows: int) -> NDArray[np.uint8]:
        return self._file.part(self._begin(info), info.size).reshape(rows, -1)

    def _begin(self, info: TensorInfo) -> int:
        """Where its bytes lie in the file."""
        return self._header.data_offset + info.offset

    def _tensor(self, info: TensorInfo) -> Tensor:
        """Mapped so that torch may take it for writable: written to, it would become a copy."""
        dtype, kind = _PLAIN[info.type]
        mapped = np.memmap(self._header.path, dtype, "c", self._begin(info), info.shape[::-1])
        return torch.from_numpy(np.asarray(mapped)).view(kind)


def open_gguf(
    path: Path, threads: int, device: torch.device, *, resident: bool | None = None, common: Common | None = None
) -> GgufWeights:
    """The weights of a GGUF file of a model. Raises NotFound, BadModelFile, Unsupported."""
    return GgufWeights(origin.read(path), Workbench(threads, device, resident=resident, common=common))


def _check_types(header: GgufHeader) -> None:
    for tensor in header.tensors:
        if tensor.type not in SUPPORTED:
            raise Unsupported(
                f"{shown(header.path, 400)}: tensor {shown(tensor.name)} is {tensor.type}",
                f"Types that can be tuned on: {', '.join(SUPPORTED)}",
            )


def _order(plan: TensorPlan) -> Order | None:
    """Which row of the file each row of the matrix is: the plan says it the other way round."""
    return None if plan.rows is None else np.argsort(plan.rows)
