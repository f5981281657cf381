"""What products are made in: bfloat16 or float32, whichever this machine multiplies faster, or whole numbers."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from freehold.core.errors import BadInput
from freehold.formats.gguf import read_header
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.int8 import Int8, operand
from freehold.tuning.decoder.weights import Plain
from freehold.tuning.device import Device
from freehold.tuning.job import ADAPTERS, TrainJob
from freehold.tuning.unpack import file_of

_SHAPE = (2048, 512)
_LARGE = (512, 2048)
"""Of a product that decides over whole numbers: smaller ones gain less than what it costs to round."""
_HIDDEN = 768
"""Numbers of a token's state in the smallest model that gains."""
_ROUNDS = 40
_ENOUGH = 0.5
"""Seconds that a try takes, but for the least turns."""
_MARGIN = 1.3
"""How much faster a type must be to be worth its rounding; keeps the choice the same on machines of one kind."""
_TURNS = 3
_FINE = ("F32", "F16", "BF16", "Q8_0")
"""Types that lose less than products in 8 bits do."""
_MOSTLY = 0.9
"""Share of the layers' numbers."""
Product = Callable[[], object]


def choose(wanted: str, device: Device) -> torch.dtype:
    """The type to compute in. `auto` is bfloat16 where a matrix product in it is clearly faster."""
    if wanted in ("f32", "bf16"):
        return {"f32": torch.float32, "bf16": torch.bfloat16}[wanted]
    known = device.computes_bfloat16()
    if known is None:
        plain, short = _seconds(device, *(_dense(device, dtype) for dtype in (torch.float32, torch.bfloat16)))
        known = plain > _MARGIN * short
    return torch.bfloat16 if known else torch.float32


def spelt(compute: torch.dtype) -> str:
    """A type to compute in, as `choose` takes it."""
    return "f32" if compute == torch.float32 else "bf16"


def in_int8(job: TrainJob, base: Path, hidden: int, compute: torch.dtype, device: Device, begun: str = "") -> bool:
    """Whether products with a frozen base are made in 8 bits. Raises BadInput where that was asked for and cannot be.

    `auto` does so where that is clearly faster, and the base was rounded more than it will be; a run that has `begun`
    with a type goes on with it where it can.
    """
    able = job.method in ADAPTERS and job.backend == "freehold" and not device.resident
    if job.dtype == "int8" and not able:
        raise BadInput(
            "dtype = 'int8' is for adapters beside a frozen base, computed by freehold on a processor",
            "Leave dtype out, or use method = 'lora' without a GPU",
        )
    if begun and able:
        return begun == "int8"
    if job.dtype == "auto" and able and hidden >= _HIDDEN and _coarse(job, base):
        plain, whole = _seconds(device, *_beside(compute))
        return plain > _MARGIN * whole
    return job.dtype == "int8"


def _coarse(job: TrainJob, base: Path) -> bool:
    """Whether most of what the layers hold was rounded to fewer than 8 bits."""
    file = file_of(base)
    if file is None:
        return job.base_dtype == "nf4"
    matrices = [
        tensor for tensor in read_header(file).tensors if tensor.name.startswith("blk.") and len(tensor.shape) > 1
    ]
    coarse = sum(tensor.elements for tensor in matrices if tensor.type not in _FINE)
    return coarse > _MOSTLY * sum(tensor.elements for tensor in matrices)


def _dense(device: Device, dtype: torch.dtype) -> Product:
    wide, tall = _SHAPE, (_SHAPE[1], _SHAPE[1])
    left, right = (torch.ones(shape, dtype=dtype, device=device.device) for shape in (wide, tall))
    return lambda: left @ right


def _beside(dtype: torch.dtype) -> tuple[Product, Product]:
    """The same product in a type, and in whole numbers with all that there is about it."""
    tokens, size = _LARGE
    x, dense = torch.ones(tokens, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    whole = Int8(Plain(dense), Buffers(x.device))
    return lambda: x @ dense.T, lambda: whole.times(operand(x))


def _seconds(device: Device, *products: Product) -> Sequence[float]:
    """Seconds of each, at best, in turns and on one thread.

    Two threads would wait for each other where other work keeps a core busy, and tell of that.
    """
    best = [float("inf")] * len(products)
    began = time.perf_counter()
    with _alone():
        for turn in range(_ROUNDS):
            for index, product in enumerate(products):
                start = device.now()
                product()
                best[index] = min(best[index], device.now() - start)
            if turn >= _TURNS and time.perf_counter() - began > _ENOUGH:
                break
    return best


@contextmanager
def _alone() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
