"""Writing a GGUF file: its header, then the tensors piece by piece, under its name only when complete."""

import shutil
import struct
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from freehold.convert.plan import Metadata, MetadataValue
from freehold.core.errors import NotFound
from freehold.formats.atomic import disk_errors, disk_full, replacing
from freehold.formats.ggml import TENSOR_TYPES
from freehold.formats.reading import shown

ALIGNMENT = 32
_U32 = 4
_IDS = {kind.name: id_ for id_, kind in TENSOR_TYPES.items()}


class OutTensor(NamedTuple):
    """A tensor of the file. `shape` is in numpy's order, `size` in bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    size: int


def padding(size: int) -> int:
    """Zero bytes between something of `size` bytes and the next tensor."""
    return -size % ALIGNMENT


def packed_header(entries: Sequence[bytes], tensors: Sequence[OutTensor]) -> bytes:
    """A GGUF header of metadata entries that are packed already, up to where the tensors begin."""
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(entries)), *entries]
    offset = 0
    for tensor in tensors:
        extents = tensor.shape[::-1]
        parts.append(packed_string(tensor.name) + struct.pack(f"<I{len(extents)}Q", len(extents), *extents))
        parts.append(struct.pack("<IQ", _IDS[tensor.type], offset))
        offset += tensor.size + padding(tensor.size)
    packed = b"".join(parts)
    return packed + bytes(padding(len(packed)))


def packed_string(text: str) -> bytes:
    """A string as GGUF stores it."""
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def number_entry(key: str, value: int) -> bytes:
    """A UINT32 metadata entry."""
    return packed_string(key) + struct.pack("<II", _U32, value)


def header_bytes(architecture: str, metadata: Metadata, tensors: Sequence[OutTensor]) -> bytes:
    """A GGUF header, as the gguf package writes it, up to where the tensors begin."""
    import gguf
    import numpy as np

    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header"
        writer = gguf.GGUFWriter(path, architecture)
        for key, value in metadata.items():
            _add(writer, key, value)
        for tensor in tensors:
            # raw_dtype makes the writer take the type as given; the array's own dtype is then not looked at.
            kind = gguf.GGMLQuantizationType[tensor.type]
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        header = path.read_bytes()
    return header + bytes(padding(len(header)))


def _add(writer: Any, key: str, value: MetadataValue) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def write_file(out: Path, header: bytes, tensors: Sequence[OutTensor], pieces: Iterable[memoryview]) -> None:
    """Write header and tensors; `pieces` are the tensors' bytes in order. On any error nothing is left behind.

    Raises DiskFull before the first byte where the file system has too little room, or when it fills up meanwhile.
    """
    check_room(out, len(header) + sum(tensor.size + padding(tensor.size) for tensor in tensors))
    with replacing(out) as temporary, temporary.open("wb") as file:
        file.write(header)
        stream = iter(pieces)
        for tensor in tensors:
            written = 0
            while written < tensor.size:
                piece = next(stream)
                file.write(piece)
                written += len(piece)
            if written != tensor.size:
                raise AssertionError(f"{tensor.name}: {written} bytes written, {tensor.size} announced")
            file.write(bytes(padding(written)))
        if next(stream, None) is not None:
            raise AssertionError("more bytes came than the tensors announced")


def check_room(out: Path, size: int) -> None:
    """Raises DiskFull when `size` bytes do not fit beside `out`, NotFound when its folder is not there."""
    if not out.parent.is_dir():
        raise NotFound(f"no such folder: {shown(out.parent, 400)}", "Make the folder first")
    if size > shutil.disk_usage(out.parent).free:
        raise disk_full(out.parent, size)
