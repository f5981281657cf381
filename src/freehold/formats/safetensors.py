"""Safetensors headers, checked as strictly as the official library does, and for keys that appear twice.

The format: https://github.com/huggingface/safetensors#format
"""

import re
from collections import Counter
from io import FileIO
from math import prod
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from freehold.formats.reading import bad_file, regular_file, shown

MAX_HEADER = 100_000_000
MAX_ITEMS = 1 << 22
_LIMIT = (1 << 63) - 1
DTYPE_BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
# A string of JSON, and the colon that makes it a key.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?')

Extent = Annotated[int, Meta(ge=0, le=_LIMIT)]


class Tensor(NamedTuple):
    """One tensor: bytes `begin` to `end` of the data, counted from `data_offset`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Weights in the tensor."""
        return prod(self.shape)


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """A safetensors file's header. The tensors fill the data without gap or overlap."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    data_offset: int
    file_size: int

    @property
    def parameters(self) -> int:
        """Weights in all tensors."""
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The type that holds the most weights; empty without weights."""
        weights: Counter[str] = Counter()
        for tensor in self.tensors.values():
            weights[tensor.dtype] += tensor.elements
        return weights.most_common(1)[0][0] if weights else ""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[Extent, ...]
    data_offsets: tuple[Extent, Extent]


def read_header(path: Path) -> SafetensorsHeader:
    """The header of a safetensors file. Raises NotFound, BadInput, and BadModelFile for whatever is wrong inside."""
    with regular_file(path) as (file, size):
        raw = _raw_header(file, size, path)
    metadata, entries = _decode(raw, path)
    tensors = {name: Tensor(e.dtype, e.shape, *e.data_offsets) for name, e in entries.items()}
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor)
    data_offset = 8 + len(raw)
    _check_layout(path, tensors, size - data_offset)
    return SafetensorsHeader(path, tensors, metadata, data_offset, size)


def _raw_header(file: FileIO, size: int, path: Path) -> bytes:
    if size == 0:
        raise bad_file(path, "the file is empty")
    if size < 8:
        raise bad_file(path, "truncated inside the length of the header")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise bad_file(path, f"not a safetensors file, or its header of {length} bytes is over {MAX_HEADER}")
    if length > size - 8:
        raise bad_file(path, "truncated inside the header")
    pieces = bytearray()
    while len(pieces) < length:
        piece = file.read(length - len(pieces))
        if not piece:
            raise bad_file(path, "the file became shorter while it was read")
        pieces += piece
    return bytes(pieces)


def _decode(raw: bytes, path: Path) -> tuple[dict[str, str], dict[str, _Entry]]:
    if not raw.startswith(b"{"):
        raise bad_file(path, "not a safetensors file: its header does not start with '{'")
    # JSON takes up to forty times its size in memory: count before decoding.
    if raw.count(b",") > MAX_ITEMS:
        raise bad_file(path, f"the header holds more than {MAX_ITEMS} items")
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        top_level = len(fields)
        metadata = msgspec.json.decode(fields.pop("__metadata__", b"{}"), type=dict[str, str])
        entries = {name: msgspec.json.decode(field, type=_Entry) for name, field in fields.items()}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_file(path, f"the header is not valid: {error}") from error
    keys = sum(1 for match in _STRING.finditer(raw) if match[1])
    if keys != top_level + len(entries) * 3 + len(metadata):
        raise bad_file(path, "a key of the header appears twice")
    return metadata, entries


def _check_tensor(path: Path, name: str, tensor: Tensor) -> None:
    """Raises BadModelFile unless shape and type give exactly the bytes that are claimed."""
    bits = DTYPE_BITS.get(tensor.dtype)
    if bits is None:
        raise bad_file(path, f"tensor {shown(name)!r} has the unknown type {shown(tensor.dtype)!r}")
    elements = 1
    for extent in tensor.shape:
        elements *= extent
        if elements > _LIMIT:
            raise bad_file(path, f"tensor {shown(name)!r} has an impossible shape")
    if elements * bits % 8 or elements * bits // 8 != tensor.end - tensor.begin:
        raise bad_file(path, f"tensor {shown(name)!r} does not fill its bytes {tensor.begin} to {tensor.end}")


def _check_layout(path: Path, tensors: dict[str, Tensor], size: int) -> None:
    """Raises BadModelFile unless the tensors fill the `size` bytes of data from first to last."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if tensor.begin != end:
            kind = "overlaps another" if tensor.begin < end else "leaves a gap before it"
            raise bad_file(path, f"tensor {shown(name)!r} {kind}")
        end = tensor.end
    if end > size:
        raise bad_file(path, f"truncated: the tensors need {end} bytes and the file has {size}")
    if end < size:
        raise bad_file(path, f"{size - end} bytes after the last tensor belong to nothing")
