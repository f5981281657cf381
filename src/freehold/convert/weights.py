"""The tensors of a safetensors folder, one file or sharded, memory-mapped and read in pieces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freehold.convert.config import read_json
from freehold.convert.dtypes import STORED
from freehold.core.errors import BadModelFile, NotFound, Unsupported
from freehold.formats.reading import bad_file, shown
from freehold.formats.safetensors import read_header

_FILE_NAME = re.compile(r"[\w.-]{1,200}\.safetensors", re.ASCII)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies. `offset` counts from the start of the file."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @cached_property
    def array(self) -> NDArray[Any]:
        """The stored values, mapped: nothing is read before it is used."""
        if self.dtype not in STORED:
            raise Unsupported(
                f"tensor {shown(self.name)} is stored as {shown(self.dtype)}",
                "Use the model's F32, F16 or BF16 weights",
            )
        if not all(self.shape):
            raise bad_file(self.path, f"tensor {shown(self.name)} is empty")
        return np.memmap(self.path, STORED[self.dtype], "r", self.offset, self.shape)


class Weights:
    """All tensors of a folder by name."""

    def __init__(self, folder: Path, tensors: dict[str, StoredTensor]) -> None:
        self.folder, self.tensors = folder, tensors

    @classmethod
    def open(cls, folder: Path) -> "Weights":
        """Read the headers. Raises NotFound, BadModelFile."""
        if (folder / SINGLE).exists():  # first, as transformers looks: an index beside it may be older
            return cls(folder, _tensors(folder / SINGLE))
        if (folder / INDEX).exists():
            return cls(folder, _sharded(folder))
        raise NotFound(f"{shown(folder, 400)} holds no {SINGLE}", "Name a folder of safetensors weights")

    @classmethod
    def of_file(cls, path: Path) -> "Weights":
        """The tensors of one file, whatever it is called. Raises NotFound, BadModelFile."""
        return cls(path.parent, _tensors(path))

    def names(self) -> list[str]:
        """In alphabetical order."""
        return sorted(self.tensors)

    def get(self, name: str) -> StoredTensor:
        """Raises BadModelFile naming a tensor that is missing."""
        if name not in self.tensors:
            raise BadModelFile(f"{shown(self.folder, 400)}: tensor {shown(name)} is missing", "Fetch the model again")
        return self.tensors[name]

    def expect(self, name: str, shape: Sequence[int]) -> StoredTensor:
        """The tensor, which must have this shape. Raises BadModelFile."""
        found = self.get(name)
        if found.shape != tuple(shape):
            raise bad_file(
                found.path, f"tensor {shown(name)} has shape {list(found.shape)}, config.json says {list(shape)}"
            )
        return found

    def dtype(self) -> str:
        """The format that holds most of the bytes."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            width = STORED[tensor.dtype].itemsize if tensor.dtype in STORED else 1
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + int(np.prod(tensor.shape)) * width
        return max(sorted(sizes), key=lambda name: sizes[name]) if sizes else "F32"


def equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors hold the same bits."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    step = max(1, (1 << 22) // max(1, one.shape[-1]))
    left, right = one.array, other.array
    unsigned = f"<u{left.dtype.itemsize}"
    return all(
        np.array_equal(left[i : i + step].view(unsigned), right[i : i + step].view(unsigned))
        for i in range(0, one.shape[0], step)
    )


def _tensors(path: Path) -> dict[str, StoredTensor]:
    header = read_header(path)
    return {
        name: StoredTensor(name, path, tensor.dtype, tuple(tensor.shape), header.data_offset + tensor.begin)
        for name, tensor in header.tensors.items()
    }


def _sharded(folder: Path) -> dict[str, StoredTensor]:
    placed = read_json(folder / INDEX, 64 << 20).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise bad_file(folder / INDEX, "weight_map is missing")
    shards: dict[str, dict[str, StoredTensor]] = {}
    found: dict[str, StoredTensor] = {}
    for name, file in placed.items():
        if not isinstance(file, str) or not _FILE_NAME.fullmatch(file):
            raise bad_file(folder / INDEX, f"{shown(repr(file))} is not a file name of safetensors weights")
        if file not in shards:
            shards[file] = _tensors(folder / file)
        if name not in shards[file]:
            raise bad_file(folder / file, f"tensor {shown(name)} is missing, which {INDEX} places here")
        found[name] = shards[file][name]
    return found
