"""GGUF headers (versions 2 and 3), with every bound checked before native code may open the file.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import re
import struct
from collections import Counter
from pathlib import Path

import msgspec

from freehold.core.manifest import Details
from freehold.formats.ggml import FILE_TYPES, TENSOR_TYPES
from freehold.formats.gguf_values import Cursor, Value, read_value
from freehold.formats.reading import bad_file, regular_file, shown

MAX_TENSORS = 1 << 17
MAX_KEYS = 1 << 16
MAX_DIMENSIONS = 4
MAX_TENSOR_NAME = 63  # llama.cpp keeps names in 64 bytes with their end mark
MAX_KEY = 65535
_LIMIT = (1 << 63) - 1
_GUESSED = 1024
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor. `shape` is in ggml's order (rows are along the first axis); `offset` counts from `data_offset`."""

    name: str
    shape: tuple[int, ...]
    type: str
    """As ggml spells it: F32, Q4_K."""
    offset: int
    size: int
    """Bytes."""

    @property
    def elements(self) -> int:
        """Weights in the tensor."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


class GgufHeader(msgspec.Struct, frozen=True):
    """A GGUF file's header. Every tensor lies inside the file, aligned, and overlaps no other."""

    path: Path
    version: int
    metadata: dict[str, Value]
    """Scalars and strings as Python values, arrays as GgufArray."""
    tensors: list[TensorInfo]
    alignment: int
    data_offset: int
    file_size: int

    @property
    def architecture(self) -> str:
        """`general.architecture`; empty for a file that is no model, or in a later part of a split one."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Weights in all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def quantization(self) -> str:
        """As llama.cpp spells it; where the file does not say, the type that holds the most weights."""
        file_type = self.metadata.get("general.file_type")
        if isinstance(file_type, int) and (file_type & ~_GUESSED) in FILE_TYPES:
            return FILE_TYPES[file_type & ~_GUESSED]
        weights: Counter[str] = Counter()
        for tensor in self.tensors:
            weights[tensor.type] += tensor.elements
        return weights.most_common(1)[0][0] if weights else ""

    def number(self, key: str, default: int = 0) -> int:
        """A whole number of the metadata, `{arch}` in `key` standing for the architecture. Raises BadModelFile."""
        key = key.replace("{arch}", self.architecture)
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LIMIT:
            raise bad_file(self.path, f"{key} is not a whole number of at least 0")
        return value

    def details(self) -> Details:
        """The facts that a manifest keeps. Raises BadModelFile."""
        return Details(
            architecture=self.architecture,
            parameters=self.parameters,
            quantization=self.quantization,
            context_length=self.number("{arch}.context_length"),
            embedding_length=self.number("{arch}.embedding_length"),
        )


def read_header(path: Path, *, model: bool = True, whole: int = 0) -> GgufHeader:
    """The header of a GGUF file; `whole` is the size in bytes of a file of which only the beginning is at `path`.

    A file that is not to be a `model`, such as an importance matrix, need not say its architecture. Raises NotFound,
    BadInput, and BadModelFile for whatever is wrong inside, or for a beginning that is too short.
    """
    with regular_file(path) as (file, there):
        size = whole or there
        cursor = Cursor(file, size, path)
        version = _version(cursor)
        tensor_count, key_count = _counts(cursor)
        metadata = _metadata(cursor, key_count)
        if model:
            _check_architecture(cursor, metadata)
        alignment = _alignment(cursor, metadata)
        tensors = [_tensor(cursor, alignment) for _ in range(tensor_count)]
        data_offset = -(-cursor.position // alignment) * alignment
        _check_layout(cursor, tensors, data_offset)
    return GgufHeader(path, version, metadata, tensors, alignment, data_offset, size)


def _version(cursor: Cursor) -> int:
    if cursor.size == 0:
        raise cursor.bad("the file is empty")
    magic = cursor.take(4, "the magic number")
    if magic != b"GGUF":
        raise cursor.bad(f"not a GGUF file: it starts with {magic!r}")
    version = cursor.u32("the version")
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0 and version:
        raise cursor.bad("a big-endian GGUF file, which does not run here")
    raise cursor.bad(f"GGUF version {version}; versions 2 and 3 can be read")


def _counts(cursor: Cursor) -> tuple[int, int]:
    tensors, keys = cursor.u64("the tensor count"), cursor.u64("the metadata count")
    if tensors > MAX_TENSORS:
        raise cursor.bad(f"claims {tensors} tensors, more than {MAX_TENSORS}")
    if keys > MAX_KEYS:
        raise cursor.bad(f"claims {keys} metadata keys, more than {MAX_KEYS}")
    # The least that each can take: a one-byte tensor name with one dimension, a one-byte key with a one-byte value.
    if tensors * 33 + keys * 14 > cursor.left:
        raise cursor.bad(f"claims {tensors} tensors and {keys} metadata keys in {cursor.size} bytes")
    return tensors, keys


def _metadata(cursor: Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.string("a metadata key", MAX_KEY)
        if not key or key in metadata:
            raise cursor.bad(f"metadata key {key!r} appears twice" if key else "a metadata key is empty")
        metadata[key] = read_value(cursor, cursor.u32(f"the type of {key!r}"), repr(shown(key)))
    return metadata


def _check_architecture(cursor: Cursor, metadata: dict[str, Value]) -> None:
    architecture = metadata.get("general.architecture")
    if architecture is None and metadata.get("split.no", 0) != 0:
        return
    if not isinstance(architecture, str) or not _ARCHITECTURE.fullmatch(architecture):
        raise cursor.bad("general.architecture is missing or is not a name")


def _alignment(cursor: Cursor, metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.bad("general.alignment is not a power of two")
    return alignment


def _tensor(cursor: Cursor, alignment: int) -> TensorInfo:
    name = cursor.string("a tensor name", MAX_TENSOR_NAME)
    if not name:
        raise cursor.bad("a tensor has no name")
    dimensions = cursor.u32(f"the dimensions of tensor {name!r}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.bad(f"tensor {name!r} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")
    fields = struct.unpack(f"<{dimensions}QIQ", cursor.take(8 * dimensions + 12, f"tensor {name!r}"))
    shape, type_id, offset = fields[:dimensions], fields[-2], fields[-1]
    if offset % alignment:
        raise cursor.bad(f"tensor {name!r} is not aligned to {alignment} bytes")
    try:
        type_name, size = _extent(shape, type_id)
    except ValueError as error:
        raise cursor.bad(f"tensor {name!r} {error}") from error
    return TensorInfo(name, shape, type_name, offset, size)


def _extent(shape: tuple[int, ...], type_id: int) -> tuple[str, int]:
    """The type's name and the tensor's size in bytes. Raises ValueError."""
    kind = TENSOR_TYPES.get(type_id)
    if kind is None:
        raise ValueError(f"has the unknown type {type_id}")
    elements = 1
    for extent in shape:
        elements *= extent
        if not 0 < elements <= _LIMIT:
            raise ValueError(f"has the impossible shape {list(shape)}")
    if shape[0] % kind.block:
        raise ValueError(f"has rows of {shape[0]} weights, which is no multiple of {kind.name}'s block of {kind.block}")
    return kind.name, elements // kind.block * kind.size


def _check_layout(cursor: Cursor, tensors: list[TensorInfo], data_offset: int) -> None:
    """Raises BadModelFile unless names differ and the tensors lie side by side inside the file."""
    names = Counter(tensor.name for tensor in tensors)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise cursor.bad(f"tensor {twice!r} appears twice")
    end, before = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset < end:
            raise cursor.bad(f"tensors {before!r} and {tensor.name!r} overlap")
        end, before = tensor.offset + tensor.size, tensor.name
        if data_offset + end > cursor.size:
            raise cursor.bad(
                f"tensor {tensor.name!r} ends at byte {data_offset + end} of a file of {cursor.size} bytes: truncated"
            )
