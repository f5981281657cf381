"""bfloat16 or float32: whichever this machine multiplies faster."""

import time

import torch

from freehold.tuning.device import Device

_SHAPE = (2048, 512)
_ROUNDS = 40
_MARGIN = 1.3
"""How much faster bfloat16 must be to be worth its rounding; keeps the choice the same on machines of one kind."""


def choose(wanted: str, device: Device) -> torch.dtype:
    """The type to compute in. `auto` is bfloat16 where a matrix product in it is clearly faster."""
    if wanted != "auto":
        return {"f32": torch.float32, "bf16": torch.bfloat16}[wanted]
    known = device.computes_bfloat16()
    if known is None:
        plain, short = _seconds(device, torch.float32, torch.bfloat16)
        known = plain > _MARGIN * short
    return torch.bfloat16 if known else torch.float32


def _seconds(device: Device, *dtypes: torch.dtype) -> list[float]:
    """Seconds of a product in each type, at best: in turns, so that other work on the machine slows all of them."""
    wide, tall = _SHAPE, (_SHAPE[1], _SHAPE[1])
    pairs = [tuple(torch.ones(shape, dtype=dtype, device=device.device) for shape in (wide, tall)) for dtype in dtypes]
    best = [float("inf")] * len(dtypes)
    device.wait()
    for _ in range(_ROUNDS):
        for index, (left, right) in enumerate(pairs):
            start = time.perf_counter()
            left @ right
            device.wait()
            best[index] = min(best[index], time.perf_counter() - start)
    return best
