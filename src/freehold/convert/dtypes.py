"""Number formats of weights in plain numpy: BF16 is held as uint16, the upper half of an F32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freehold.core.errors import BadModelFile, Unsupported
from freehold.formats.reading import shown

STORED: dict[str, Any] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""How each format lies in a file and in an array."""

Floats = NDArray[np.float32]


def to_f32(values: NDArray[Any], dtype: str) -> Floats:
    """`values`, stored as `dtype`, as a contiguous F32 array; exact."""
    if dtype == "BF16":
        wide = values.astype(np.uint32)
        wide <<= 16
        return np.ascontiguousarray(wide).view(np.float32)
    return np.ascontiguousarray(values, dtype=np.float32)


def from_f32(values: Floats, dtype: str, tensor: str) -> NDArray[Any]:
    """F32 values rounded to the nearest of `dtype`. Raises Unsupported where one is too large for F16."""
    if dtype == "F32":
        return values
    if dtype == "BF16":
        return _to_bf16(values)
    with np.errstate(over="ignore", under="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise Unsupported(f"tensor {shown(tensor)} has values too large for F16", "Use dtype bf16 or f32")
    return half


def _to_bf16(values: Floats) -> NDArray[Any]:
    """Round to nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)).astype(np.uint16)


def checked_f32(values: NDArray[Any], dtype: str, tensor: str) -> Floats:
    """`values` as F32. Raises BadModelFile for NaN and infinity, on which kernels and answers go wrong."""
    wide = to_f32(values, dtype)
    if not np.isfinite(wide).all():
        raise BadModelFile(f"tensor {shown(tensor)} holds NaN or infinite values", "Train or fetch the model again")
    return wide


def convert(values: NDArray[Any], source: str, target: str, tensor: str) -> NDArray[Any]:
    """`values` in another format. Raises BadModelFile for NaN and infinity, Unsupported on overflow."""
    wide = checked_f32(values, source, tensor)
    return np.ascontiguousarray(values) if source == target else from_f32(wide, target, tensor)


def raw(values: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return values.reshape(-1).view(np.uint8).data
