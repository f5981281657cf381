"""bfloat16 or float32: whichever this machine multiplies faster."""

import time

import torch

_SHAPE = (2048, 512)
_ROUNDS = 5
_MARGIN = 1.3
"""How much faster bfloat16 must be to be worth its rounding; keeps the choice the same on machines of one kind."""


def choose(wanted: str, device: torch.device) -> torch.dtype:
    """The type to compute in. `auto` is bfloat16 where a matrix product in it is clearly faster."""
    if wanted != "auto":
        return {"f32": torch.float32, "bf16": torch.bfloat16}[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _seconds(torch.float32) > _MARGIN * _seconds(torch.bfloat16) else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    left, right = torch.ones(*_SHAPE, dtype=dtype), torch.ones(_SHAPE[1], _SHAPE[1], dtype=dtype)
    taken = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - start)
    return min(taken)
