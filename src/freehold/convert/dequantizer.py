"""ggml's dequantisation, out of the xllamacpp wheel's library, with the gguf package's numpy as fallback.

The wheel exports these functions by accident too (see `ggml`), so each is tried on known bytes before its first use.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freehold.convert.dtypes import Floats, from_f32
from freehold.convert.ggml import LAYOUTS, Bytes
from freehold.engines.wheel import libraries

Kernel = Callable[[Bytes, Floats], None]
"""Fills contiguous F32 [rows, columns] from contiguous [rows, bytes of a row]."""
Narrowing = Callable[[Floats, NDArray[np.uint16]], None]
"""Fills BF16 numbers, held as uint16, from as many contiguous F32 ones: to the nearest, ties to even."""

SCALES: dict[str, tuple[int, ...]] = {
    "Q8_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"), (0,)),
}
"""The types that can be dequantised, and where their blocks hold scales in F16 (ggml-common.h)."""
_CLOSE = 1e-5
"""Relative difference that another order of rounding may make."""
_NARROWING = ("ggml_cpu_fp32_to_bf16", "ggml_fp32_to_bf16_row")
"""The first uses what the processor has for it: twice as fast."""
_ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


@functools.cache
def kernel(type_name: str) -> Kernel:
    """The kernel of a type that SCALES names, tried before it is handed out."""
    function = _function(f"dequantize_row_{type_name.lower().replace('_k', '_K')}")
    native = functools.partial(_native, function)
    found = native if function is not None and passes(native, type_name) else functools.partial(_numpy, type_name)
    return functools.partial(_checked, found, type_name)


@functools.cache
def narrowing() -> Narrowing:
    """F32 to BF16, tried before it is handed out."""
    for name in _NARROWING:
        function = _function(name)
        native = functools.partial(_native, function)
        if function is not None and narrows(native):
            return native
    return _narrow


def passes(candidate: Kernel, type_name: str) -> bool:
    """The self-test: random blocks with scales of a usual size, beside gguf's dequantisation of them."""
    import gguf

    packed = sample(type_name)
    wanted = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[type_name])
    found = np.full_like(wanted, np.nan)
    candidate(packed, found)
    return bool(np.allclose(found, wanted, rtol=_CLOSE, atol=_CLOSE * float(np.abs(wanted).max())))


def sample(type_name: str, rows: int = 4, columns: int = 512) -> Bytes:
    """Any bytes are a block; only its scales must be sensible numbers."""
    layout, draw = LAYOUTS[type_name], np.random.default_rng(11)
    count = rows * columns // layout.block
    blocks = draw.integers(0, 256, (count, layout.size), dtype=np.uint8)
    for place in SCALES[type_name]:
        blocks[:, place : place + 2] = draw.uniform(0.001, 0.02, count).astype("<f2").view(np.uint8).reshape(count, 2)
    return blocks.reshape(rows, layout.row_bytes(columns))


def narrows(candidate: Narrowing) -> bool:
    """The self-test of narrowing: ties, both signs, the smallest and the largest."""
    bits = np.arange(0x3F80_0000, 0x3F80_0000 + 0x1_4000, 0x2000, dtype=np.uint32)
    wide = np.concatenate([bits.view(np.float32), -bits.view(np.float32), np.array([0, 1e-30, 3e38, 0.1], np.float32)])
    found = np.zeros(wide.shape, np.uint16)
    candidate(wide, found)
    return np.array_equal(found, from_f32(wide, "BF16", ""))


def _checked(found: Kernel, type_name: str, packed: Bytes, out: Floats) -> None:
    """What stands between Python and raw pointers."""
    layout = LAYOUTS[type_name]
    columns = out.shape[-1]
    if packed.dtype != np.uint8 or out.dtype != np.float32 or out.ndim != 2 or columns % layout.block:
        raise ValueError(f"rows of bytes into rows of F32 expected, not {packed.dtype} into {out.dtype} {out.shape}")
    if packed.shape != (len(out), layout.row_bytes(columns)):
        raise ValueError(f"{type_name} of shape {out.shape} is not in bytes of shape {packed.shape}")
    if not (packed.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("contiguous rows expected")
    found(packed, out)


def _native(function: Any, source: NDArray[Any], out: NDArray[Any]) -> None:
    function(source.ctypes.data, out.ctypes.data, out.size)


def _numpy(type_name: str, packed: Bytes, out: Floats) -> None:
    import gguf

    out[:] = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[type_name])


def _narrow(wide: Floats, out: NDArray[np.uint16]) -> None:
    out[:] = from_f32(wide, "BF16", "")


def _function(name: str) -> Any:
    """A function of the wheel's shared library, or None."""
    for path in libraries():
        try:
            function = getattr(ctypes.CDLL(str(path)), name)
        except (OSError, AttributeError):
            continue
        function.restype, function.argtypes = None, list(_ARGUMENTS)
        return function
    return None
