"""From an unquantised GGUF file to a quantised one, a few rows at a time."""

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from freehold.convert import ggml
from freehold.convert.dtypes import STORED, checked_f32, from_f32, raw
from freehold.convert.mixture import PLAIN, target_types
from freehold.convert.output import OutTensor, padding, write_file
from freehold.convert.types import QuantType, quant_type
from freehold.core.errors import Unsupported
from freehold.formats.ggml import TENSOR_TYPES
from freehold.formats.gguf import MAX_KEY, GgufHeader, TensorInfo, read_header
from freehold.formats.gguf_values import Cursor, read_value
from freehold.formats.reading import regular_file, shown

Progress = Callable[[int, int], None]

_PIECE = 1 << 20
"""Weights quantised at a time: 4 MiB of F32 for each thread and its successor."""
_QUANTIZATION_VERSION = 2
_U32 = 4
_REPLACED = {"general.quantization_version", "general.file_type", "general.alignment"}
_IDS = {kind.name: id_ for id_, kind in TENSOR_TYPES.items()}
_WHOLE_NUMBERS = ("I8", "I16", "I32", "I64")


class Piece(NamedTuple):
    """Some rows of one tensor."""

    tensor: TensorInfo
    target: str
    start: int
    stop: int


def quantize(source: Path, out: Path, type_name: str, *, threads: int = 0, on_progress: Progress | None = None) -> None:
    """See `freehold.convert.quantize`."""
    kind = quant_type(type_name)
    header = read_header(source)
    _check_source(header)
    targets = target_types(header, kind)
    for target in sorted(set(targets.values()) & set(ggml.ERRORS)):
        ggml.kernel(target)
    by_name = {tensor.name: tensor for tensor in header.tensors}
    tensors = [_out(by_name[name], target) for name, target in targets.items()]
    pieces = [piece for name, target in targets.items() for piece in _cut(by_name[name], target)]
    workers = threads if threads > 0 else len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers, "quantize") as pool:
        done = _in_order(pool, pieces, lambda piece: _quantized(header, piece), 2 * workers)
        write_file(out, _header(header, kind, tensors), tensors, _reporting(done, pieces, on_progress))


def _check_source(header: GgufHeader) -> None:
    for tensor in header.tensors:
        if tensor.type not in (*PLAIN, *_WHOLE_NUMBERS):
            raise Unsupported(
                f"{shown(header.path, 400)} is already quantised ({header.quantization})",
                "Quantise the F32, F16 or BF16 file of the model",
            )
    if header.number("split.count", 1) > 1:
        raise Unsupported(
            f"{shown(header.path, 400)} is one part of a split model", "Merge the parts into one file first"
        )


def _out(tensor: TensorInfo, target: str) -> OutTensor:
    size = tensor.elements // tensor.shape[0] * ggml.LAYOUTS[target].row_bytes(tensor.shape[0])
    return OutTensor(tensor.name, tensor.shape[::-1], target, size)


def _cut(tensor: TensorInfo, target: str) -> Iterator[Piece]:
    rows, step = tensor.elements // tensor.shape[0], max(1, _PIECE // tensor.shape[0])
    for start in range(0, rows, step):
        yield Piece(tensor, target, start, min(start + step, rows))


def _quantized(header: GgufHeader, piece: Piece) -> NDArray[Any]:
    """The piece's bytes in the target type. Raises BadModelFile for values that are not numbers."""
    tensor, columns = piece.tensor, piece.tensor.shape[0]
    layout = ggml.LAYOUTS[tensor.type]
    start = header.data_offset + tensor.offset + piece.start * layout.row_bytes(columns)
    shape = (piece.stop - piece.start, columns)
    if tensor.type == piece.target:
        return np.memmap(header.path, np.uint8, "r", start, (shape[0], layout.row_bytes(columns)))
    stored = np.memmap(header.path, STORED[tensor.type], "r", start, shape)
    values = checked_f32(stored, tensor.type, tensor.name)
    if piece.target in PLAIN:
        return from_f32(values, piece.target, tensor.name)
    return ggml.kernel(piece.target)(values)


def _in_order(
    pool: ThreadPoolExecutor, pieces: Iterable[Piece], work: Callable[[Piece], NDArray[Any]], window: int
) -> Iterator[NDArray[Any]]:
    """Results in the order of `pieces`, worked on by all threads, `window` of them at a time in memory."""
    waiting: deque[Future[NDArray[Any]]] = deque()
    try:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _reporting(done: Iterator[NDArray[Any]], pieces: list[Piece], on_progress: Progress | None) -> Iterator[memoryview]:
    """Pass results on, and tell after each how many bytes of the source are done."""
    sizes = [
        (piece.stop - piece.start) * ggml.LAYOUTS[piece.tensor.type].row_bytes(piece.tensor.shape[0])
        for piece in pieces
    ]
    total, behind = sum(sizes), 0
    for size, result in zip(sizes, done, strict=True):
        yield raw(result)
        behind += size
        if on_progress is not None:
            on_progress(behind, total)


def _header(header: GgufHeader, kind: QuantType, tensors: list[OutTensor]) -> bytes:
    """The source's metadata, byte for byte but for the file type, and the new tensors."""
    kept = [
        raw for key, raw in raw_metadata(header.path).items() if key not in _REPLACED and not key.startswith("split.")
    ]
    kept.append(_number("general.quantization_version", _QUANTIZATION_VERSION))
    kept.append(_number("general.file_type", kind.file_type))
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(kept)), *kept]
    offset = 0
    for tensor in tensors:
        extents = tensor.shape[::-1]
        parts.append(_string(tensor.name) + struct.pack(f"<I{len(extents)}Q", len(extents), *extents))
        parts.append(struct.pack("<IQ", _IDS[tensor.type], offset))
        offset += tensor.size + padding(tensor.size)
    packed = b"".join(parts)
    return packed + bytes(padding(len(packed)))


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _number(key: str, value: int) -> bytes:
    return _string(key) + struct.pack("<II", _U32, value)


def raw_metadata(path: Path) -> Mapping[str, bytes]:
    """Every key of a GGUF file with the bytes of its entry, key and type included, in the file's order."""
    entries: dict[str, bytes] = {}
    with regular_file(path) as (file, size):
        cursor = Cursor(file, size, path)
        cursor.take(16, "the header")
        for _ in range(cursor.u64("the metadata count")):
            start = cursor.position
            key = cursor.string("a metadata key", MAX_KEY)
            read_value(cursor, cursor.u32(f"the type of {key!r}"), repr(key))
            entries[key] = bytes(memoryview(cursor.buffer)[start : cursor.position])
    return entries
