"""bfloat16 or float32: whichever this machine multiplies faster."""

import time

import torch

_SHAPE = (2048, 512)
_ROUNDS = 40
_MARGIN = 1.3
"""How much faster bfloat16 must be to be worth its rounding; keeps the choice the same on machines of one kind."""


def choose(wanted: str, device: torch.device) -> torch.dtype:
    """The type to compute in. `auto` is bfloat16 where a matrix product in it is clearly faster."""
    if wanted != "auto":
        return {"f32": torch.float32, "bf16": torch.bfloat16}[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    plain, short = _seconds(torch.float32, torch.bfloat16)
    return torch.bfloat16 if plain > _MARGIN * short else torch.float32


def _seconds(*dtypes: torch.dtype) -> list[float]:
    """Seconds of a product in each type, at best: in turns, so that other work on the machine slows all of them."""
    pairs = [(torch.ones(*_SHAPE, dtype=dtype), torch.ones(_SHAPE[1], _SHAPE[1], dtype=dtype)) for dtype in dtypes]
    best = [float("inf")] * len(dtypes)
    for _ in range(_ROUNDS):
        for index, (left, right) in enumerate(pairs):
            start = time.perf_counter()
            left @ right
            best[index] = min(best[index], time.perf_counter() - start)
    return best
