"""From an unquantised GGUF file to a quantised one, a few rows at a time."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from freehold.convert import ggml
from freehold.convert.dtypes import STORED, Floats, checked_f32, from_f32, raw
from freehold.convert.imatrix import Importance
from freehold.convert.mixture import PLAIN, target_types
from freehold.convert.output import OutTensor, number_entry, packed_header, padding, write_file
from freehold.convert.types import QuantType, quant_type
from freehold.core.errors import Unsupported
from freehold.core.system import cores
from freehold.formats.gguf import MAX_KEY, GgufHeader, TensorInfo, read_header
from freehold.formats.gguf_values import Cursor, read_value
from freehold.formats.reading import regular_file, shown

Progress = Callable[[int, int], None]

_PIECE = 1 << 20
"""Weights quantised at a time: 4 MiB of F32 for each thread and its successor."""
_QUANTIZATION_VERSION = 2
_REPLACED = {"general.quantization_version", "general.file_type", "general.alignment"}
_DROPPED = re.compile(r"split\.|quantize\.imatrix\.")
_WHOLE_NUMBERS = ("I8", "I16", "I32", "I64")


class Piece(NamedTuple):
    """Some rows of one tensor, all of the same expert's matrix."""

    tensor: TensorInfo
    target: str
    start: int
    stop: int
    matrix: int


class Plan(NamedTuple):
    """A file to be: its type, its header's bytes, its tensors in order."""

    source: GgufHeader
    kind: QuantType
    header: bytes
    tensors: list[OutTensor]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(tensor.size + padding(tensor.size) for tensor in self.tensors)


def plan(source: Path, type_name: str, importance: Importance | None = None) -> Plan:
    """What quantising will write. Raises BadModelFile, Unsupported, NotFound."""
    kind = quant_type(type_name)
    header = read_header(source)
    _check_source(header)
    if importance is not None:
        importance.check(header)
    targets = target_types(header, kind, weighted=importance is not None)
    by_name = {tensor.name: tensor for tensor in header.tensors}
    tensors = [_out(by_name[name], target) for name, target in targets.items()]
    return Plan(header, kind, _header(header, kind, tensors, importance), tensors)


def quantize(
    source: Path,
    out: Path,
    type_name: str,
    *,
    threads: int = 0,
    importance: Importance | None = None,
    on_progress: Progress | None = None,
) -> None:
    """See `freehold.convert.quantize`."""
    planned = plan(source, type_name, importance)
    if planned.kind.weighted and importance is None:
        raise Unsupported(
            f"{planned.kind.name} needs an importance matrix", "Make one from text like yours: --text FILE"
        )
    header, tensors = planned.source, planned.tensors
    for target in sorted({tensor.type for tensor in tensors} & set(ggml.ERRORS)):
        ggml.kernel(target)
    by_name = {tensor.name: tensor for tensor in header.tensors}
    weights = {tensor.name: importance.weights(tensor) for tensor in header.tensors} if importance is not None else {}
    pieces = [piece for tensor in tensors for piece in _cut(by_name[tensor.name], tensor.type)]
    workers = threads if threads > 0 else cores()
    with ThreadPoolExecutor(workers, "quantize") as pool:
        done = _in_order(
            pool, pieces, lambda piece: _quantized(header, piece, weights.get(piece.tensor.name)), 2 * workers
        )
        write_file(out, planned.header, tensors, _reporting(done, pieces, on_progress))


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
    of_matrix = tensor.shape[1] if len(tensor.shape) > 2 else rows
    for matrix in range(rows // of_matrix):
        for start in range(matrix * of_matrix, (matrix + 1) * of_matrix, step):
            yield Piece(tensor, target, start, min(start + step, (matrix + 1) * of_matrix), matrix)


def _quantized(header: GgufHeader, piece: Piece, weights: Floats | None) -> NDArray[Any]:
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
    return ggml.kernel(piece.target)(values, None if weights is None else weights[piece.matrix])


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


def _header(header: GgufHeader, kind: QuantType, tensors: list[OutTensor], importance: Importance | None) -> bytes:
    """The source's metadata, byte for byte but for the file type, and the new tensors."""
    kept = [raw for key, raw in raw_metadata(header.path).items() if key not in _REPLACED and not _DROPPED.match(key)]
    kept.append(number_entry("general.quantization_version", _QUANTIZATION_VERSION))
    kept.append(number_entry("general.file_type", kind.file_type))
    if importance is not None:  # as llama-quantize says it, without the names of the user's files
        kept.append(number_entry("quantize.imatrix.entries_count", len(importance.entries)))
        kept.append(number_entry("quantize.imatrix.chunks_count", importance.chunk_count))
    return packed_header(kept, tensors)


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
