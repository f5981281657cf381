"""Importance matrices: how much each column of a weight matrix matters, as the model's own activations say.

The file is llama.cpp's (tools/imatrix): a GGUF file of type `imatrix` that holds for each matrix `NAME.in_sum2`, the
squared activations of each column added up, and `NAME.counts`, over how many rows. It needs no architecture.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from freehold.convert.dtypes import Floats
from freehold.convert.output import OutTensor, number_entry, packed_header, packed_string, write_file
from freehold.core.errors import BadInput
from freehold.engines.llamacpp.scorer import Activations, Progress, Scorer, Windows
from freehold.formats.gguf import GgufHeader, TensorInfo, read_header
from freehold.formats.gguf_values import ARRAY, STRING, GgufArray
from freehold.formats.reading import bad_file, regular_file, shown

TYPE = "imatrix"
CHUNK_COUNT, CHUNK_SIZE, DATASETS = "imatrix.chunk_count", "imatrix.chunk_size", "imatrix.datasets"
_SUMS, _COUNTS = ".in_sum2", ".counts"
_REMEDY = "Make it anew from text: --text FILE"
_MAX_VALUES = 1 << 28
"""Numbers in a file: 1 GiB, several times what the largest models have."""


@dataclass(frozen=True)
class Importance:
    """An importance matrix. `chunk_count` chunks of `chunk_size` tokens were read; `datasets` names the texts."""

    entries: Mapping[str, Activations]
    """By tensor name. Squares are [matrices, columns]; one count serves all matrices or there is one for each."""
    chunk_count: int = 0
    chunk_size: int = 0
    datasets: tuple[str, ...] = ()

    def weights(self, tensor: TensorInfo) -> Floats | None:
        """The mean squared activation of each column, [matrices, columns]; 1 where nothing came. None if unknown."""
        found = self.entries.get(tensor.name)
        if found is None:
            return None
        squares, counts = found.squares.reshape(len(found.counts), -1), found.counts[:, None]
        means = np.where(counts > 0, squares / np.maximum(counts, 1), 1.0)
        return np.ascontiguousarray(means.reshape(_shape(tensor)), dtype=np.float32)

    def check(self, header: GgufHeader) -> None:
        """Raises BadInput unless it is of this model."""
        tensors = {tensor.name: tensor for tensor in header.tensors}
        shared = self.entries.keys() & tensors.keys()
        if not shared:
            raise BadInput(
                f"the importance matrix names no tensor of {shown(header.path, 400)}", "Use that of the same model"
            )
        for name in sorted(shared):
            matrices, columns = _shape(tensors[name])
            if self.entries[name].squares.size != matrices * columns:
                raise BadInput(
                    f"the importance matrix is of another model: {shown(name)} has "
                    f"{self.entries[name].squares.size} columns there and {matrices * columns} here",
                    "Use that of the same model",
                )


def _shape(tensor: TensorInfo) -> tuple[int, int]:
    """[matrices, columns] of a tensor."""
    matrices = 1
    for extent in tensor.shape[2:]:
        matrices *= extent
    return matrices, tensor.shape[0]


async def measure(scorer: Scorer, windows: Windows, on_progress: Progress | None = None) -> Importance:
    """The importance matrix of a scorer's model (started with `collecting`), from windows of tokens."""
    found = await scorer.collect(windows, on_progress)
    # To the precision of the file, so that what is read back from one weighs the same.
    stored = {
        name: each._replace(squares=each.squares.astype(np.float32).astype(float)) for name, each in found.items()
    }
    return Importance(stored, len(windows), max(len(window) for window in windows))


def write(importance: Importance, path: Path) -> None:
    """Write it as llama.cpp's tools read it. Raises DiskFull, NotFound."""
    tensors, data = [], []
    for name, found in sorted(importance.entries.items()):
        for suffix, values in ((_SUMS, found.squares.reshape(len(found.counts), -1)), (_COUNTS, found.counts[:, None])):
            stored = np.ascontiguousarray(values, dtype=np.float32)
            tensors.append(OutTensor(name + suffix, stored.shape, "F32", stored.nbytes))
            data.append(memoryview(stored.tobytes()))
    names = b"".join(packed_string(dataset) for dataset in importance.datasets)
    entries = [
        packed_string("general.type") + struct.pack("<I", STRING) + packed_string(TYPE),
        packed_string(DATASETS) + struct.pack("<IIQ", ARRAY, STRING, len(importance.datasets)) + names,
        number_entry(CHUNK_COUNT, importance.chunk_count),
        number_entry(CHUNK_SIZE, importance.chunk_size),
    ]
    write_file(path, packed_header(entries, tensors), tensors, data)


def read(path: Path) -> Importance:
    """The importance matrix in a file. Raises NotFound, and BadModelFile for whatever is wrong inside."""
    _refuse_legacy(path)
    header = read_header(path, model=False)
    if header.metadata.get("general.type") != TYPE:
        raise bad_file(path, "not an importance matrix: its general.type is another", _REMEDY)
    if sum(tensor.elements for tensor in header.tensors) > _MAX_VALUES:
        raise bad_file(path, f"holds more than {_MAX_VALUES} numbers", _REMEDY)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    names = sorted({name.removesuffix(_SUMS).removesuffix(_COUNTS) for name in tensors})
    if not names:
        raise bad_file(path, "holds no matrix", _REMEDY)
    datasets = header.metadata.get(DATASETS)
    return Importance(
        {name: _entry(header, tensors, name) for name in names},
        header.number(CHUNK_COUNT) if CHUNK_COUNT in header.metadata else 0,
        header.number(CHUNK_SIZE) if CHUNK_SIZE in header.metadata else 0,
        tuple(str(text) for text in datasets) if isinstance(datasets, GgufArray) else (),
    )


def _refuse_legacy(path: Path) -> None:
    with regular_file(path) as (file, _):
        if file.read(4) != b"GGUF":
            remedy = "Convert an older one with llama.cpp: llama-imatrix --in-file OLD -o NEW.gguf"
            raise bad_file(path, "not an importance matrix in the GGUF format", remedy)


def _entry(header: GgufHeader, tensors: Mapping[str, TensorInfo], name: str) -> Activations:
    if name + _SUMS not in tensors or name + _COUNTS not in tensors:
        raise bad_file(header.path, f"has sums or counts of {shown(name)}, but not both", _REMEDY)
    sums, counts = (_values(header, tensors[name + suffix]) for suffix in (_SUMS, _COUNTS))
    if (sums < 0).any() or (counts < 0).any() or len(sums) % len(counts):
        raise bad_file(header.path, f"the numbers of {shown(name)} make no sense", _REMEDY)
    return Activations(sums.astype(np.float64).reshape(len(counts), -1), counts.round().astype(np.int64))


def _values(header: GgufHeader, tensor: TensorInfo) -> NDArray[np.float32]:
    if tensor.type != "F32":
        raise bad_file(header.path, f"{shown(tensor.name)} is {tensor.type}, not F32", _REMEDY)
    values = np.fromfile(header.path, np.float32, tensor.elements, offset=header.data_offset + tensor.offset)
    if len(values) != tensor.elements or not np.isfinite(values).all() or (values > 1e30).any():
        raise bad_file(header.path, f"{shown(tensor.name)} holds what is no number", _REMEDY)
    return values
