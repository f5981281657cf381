"""ggml's quantisation kernels, out of the xllamacpp wheel's library, with the gguf package's numpy as fallback.

The wheel exports `ggml_quantize_chunk` by accident, so each type is tried on known numbers before its first use, and
the Python module of the wheel is never imported. The numpy fallback knows no K types.
"""

import ctypes
import functools
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from freehold.convert.dtypes import Floats
from freehold.core.errors import Unsupported
from freehold.engines.wheel import libraries
from freehold.formats.ggml import TENSOR_TYPES

Bytes = NDArray[np.uint8]

ERRORS = {
    "Q8_0": 0.007,
    "Q6_K": 0.022,
    "Q5_K": 0.045,
    "Q5_1": 0.055,
    "Q5_0": 0.06,
    "Q4_K": 0.09,
    "Q4_1": 0.11,
    "Q4_0": 0.12,
    "Q3_K": 0.19,
    "Q2_K": 0.36,
}
"""The root mean square error, relative to the values', that normally distributed weights may have at most."""

_IN_NUMPY = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
_IDS = {kind.name: id_ for id_, kind in TENSOR_TYPES.items()}


class Layout(NamedTuple):
    """How a type stores a row: `block` weights in `size` bytes."""

    block: int
    size: int

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of `columns` weights."""
        return columns // self.block * self.size


LAYOUTS = {kind.name: Layout(kind.block, kind.size) for kind in TENSOR_TYPES.values()}


class Kernel(Protocol):
    """Quantises [rows, columns] F32 values to [rows, bytes of a row]. Rows do not influence each other.

    `importance` says for each column what the square of an error in it counts.
    """

    def __call__(self, values: Floats, importance: Floats | None = None) -> Bytes: ...


@functools.cache
def kernel(type_name: str) -> Kernel:
    """The kernel for a type that ERRORS names, tried before it is handed out. Raises Unsupported."""
    library = _library()
    candidates: list[Kernel] = [] if library is None else [functools.partial(_native, library, type_name)]
    if type_name in _IN_NUMPY:
        candidates.append(functools.partial(_numpy, type_name))
    for candidate in candidates:
        if passes(candidate, type_name):
            return functools.partial(_checked, candidate, type_name)
    raise Unsupported(
        f"this installation cannot quantise to {type_name}: the xllamacpp library is missing, or failed its self-test",
        "Reinstall it with 'pip install --force-reinstall freehold', or use Q8_0",
    )


def passes(candidate: Kernel, type_name: str) -> bool:
    """The self-test: sizes, the round-trip error through gguf's dequantisation, and for Q8_0 every byte."""
    import gguf

    kind = gguf.GGMLQuantizationType[type_name]
    values = np.random.default_rng(7).standard_normal((4, 512), dtype=np.float32)
    values[3] = 0.0
    packed = candidate(values)
    if packed.shape != (4, LAYOUTS[type_name].row_bytes(512)):
        return False
    back = gguf.quants.dequantize(packed, kind)
    error = float(np.sqrt(np.mean((back - values) ** 2) / np.mean(values**2)))
    exact = type_name != "Q8_0" or np.array_equal(packed, gguf.quants.quantize(values, kind))
    return exact and error <= ERRORS[type_name]


def _checked(candidate: Kernel, type_name: str, values: Floats, importance: Floats | None = None) -> Bytes:
    """What stands between Python and raw pointers."""
    layout = LAYOUTS[type_name]
    if values.dtype != np.float32 or values.ndim != 2 or not values.flags.c_contiguous or not values.size:
        raise ValueError(f"contiguous F32 rows expected, not {values.dtype} of shape {values.shape}")
    if values.shape[1] % layout.block:
        raise ValueError(f"rows of {values.shape[1]} weights do not divide into {type_name} blocks of {layout.block}")
    if importance is not None and (
        importance.dtype != np.float32 or importance.shape != values.shape[1:] or not importance.flags.c_contiguous
    ):
        raise ValueError(f"an F32 importance for each of {values.shape[1]} columns expected, not {importance.shape}")
    return candidate(values, importance)


def _native(library: Any, type_name: str, values: Floats, importance: Floats | None = None) -> Bytes:
    rows, columns = values.shape
    packed = np.empty((rows, LAYOUTS[type_name].row_bytes(columns)), dtype=np.uint8)
    weights = None if importance is None else importance.ctypes.data
    written = library.ggml_quantize_chunk(
        _IDS[type_name], values.ctypes.data, packed.ctypes.data, 0, rows, columns, weights
    )
    if written != packed.nbytes:
        raise Unsupported(
            f"ggml wrote {written} bytes of {type_name} where {packed.nbytes} belong",
            "Reinstall xllamacpp in the version that freehold asks for",
        )
    return packed


def _numpy(type_name: str, values: Floats, importance: Floats | None = None) -> Bytes:
    import gguf

    if importance is not None:
        raise Unsupported(
            "an importance matrix needs the xllamacpp library, which is missing or failed its self-test",
            "Reinstall it with 'pip install --force-reinstall freehold', or quantise without the matrix",
        )
    packed: Bytes = gguf.quants.quantize(values, gguf.GGMLQuantizationType[type_name])
    return packed


@functools.cache
def _library() -> Any:
    """The wheel's shared library, or None."""
    for path in libraries():
        try:
            library = ctypes.CDLL(str(path))
            function = library.ggml_quantize_chunk
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_size_t
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        function.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
        return library
    return None
