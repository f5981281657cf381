"""A base's matrices: memory-mapped from its safetensors, cast when they are used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from freehold.convert.weights import INDEX, SINGLE
from freehold.core.errors import BadModelFile


class Matrix(Protocol):
    """A matrix of the base, [out, in]."""

    @property
    def trained(self) -> torch.nn.Parameter | None:
        """The parameter, when the matrix itself is trained."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, until another matrix is asked for: to be used at once, not kept."""

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows, [ids, in]; through which no gradient flows unless the matrix is trained."""


@runtime_checkable
class Pieced(Protocol):
    """A matrix that can be had a part at a time."""

    def pieces(self, dtype: torch.dtype, rows: int) -> Iterator[tuple[int, Tensor]]:
        """All of it, `rows` at a time with the number of the first one; each until the next."""


class Plain:
    """A matrix of floating-point numbers, as it stands in the file when it is frozen."""

    def __init__(self, tensor: Tensor, *, trained: bool = False) -> None:
        self.trained = torch.nn.Parameter(tensor.float().clone()) if trained else None
        self.tensor = tensor if self.trained is None else self.trained

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.tensor.shape[0], self.tensor.shape[1]

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of it, cast."""
        return self.tensor.to(dtype)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows, cast."""
        return torch.nn.functional.embedding(ids, self.tensor).to(dtype)

    def pieces(self, dtype: torch.dtype, rows: int) -> Iterator[tuple[int, Tensor]]:
        """All of it, `rows` at a time with the number of the first one, cast."""
        for begin in range(0, len(self.tensor), rows):
            yield begin, self.tensor[begin : begin + rows].to(dtype)


class Weights:
    """The tensors of a model folder by their names in transformers."""

    def __init__(self, tensors: dict[str, Tensor], origin: Path) -> None:
        self.tensors, self.origin = tensors, origin
        self._taken: set[str] = set()

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of the shape that it must have. Raises BadModelFile."""
        tensor = self.maybe(name, *shape)
        if tensor is None:
            raise self._lacks(name)
        return tensor

    def maybe(self, name: str, *shape: int) -> Tensor | None:
        """The same, or None where there is no such tensor."""
        tensor = self.tensors.get(name)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise self._other(name, shape, tuple(tensor.shape))
        self._taken.add(name)
        return tensor

    def _lacks(self, name: str) -> BadModelFile:
        return BadModelFile(f"{self.origin} lacks the tensor {name}", "Check that the folder is complete")

    def _other(self, name: str, wanted: tuple[int, ...], found: tuple[int, ...]) -> BadModelFile:
        return BadModelFile(
            f"{name} of {self.origin} is {list(found)}, its configuration says {list(wanted)}",
            "Check that config.json and the weights belong together",
        )

    def matrix(self, name: str, rows: int, columns: int, device: torch.device, *, trained: bool) -> Matrix:
        """A matrix of the shape that it must have. Raises BadModelFile."""
        return Plain(self.take(name, rows, columns).to(device), trained=trained)

    def frequencies(self, size: int) -> Tensor | None:
        """What rotary frequencies are divided by, [size]: config.json says it otherwise."""
        return None

    def rest(self) -> list[str]:
        """What was not taken: parts of a model that is not what its configuration says."""
        return sorted(name for name in self.tensors.keys() - self._taken if not name.endswith("rotary_emb.inv_freq"))


def indexed(folder: Path) -> bool:
    """Whether an index says where the weights are. Not beside a whole file, where transformers looks first: it may be
    older.
    """
    return (folder / INDEX).exists() and not (folder / SINGLE).exists()


def shards(folder: Path) -> list[Path]:
    """The files that hold a folder's weights; others may lie beside them. Raises BadModelFile."""
    if not indexed(folder):
        return [folder / SINGLE] if (folder / SINGLE).exists() else sorted(folder.glob("*.safetensors"))
    try:
        names = sorted({Path(name).name for name in json.loads((folder / INDEX).read_bytes())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unloaded(folder, f"{INDEX} cannot be read: {error}") from error
    missing = next((name for name in names if not (folder / name).is_file()), None)
    if missing is not None:
        raise _unloaded(folder, f"{INDEX} names {missing[:200]}, which is missing")
    return [folder / name for name in names]


def open_weights(folder: Path) -> Weights:
    """The weights of a folder, of which nothing is read yet. Raises BadModelFile."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Tensor] = {}
    try:
        for path in shards(folder):
            with safe_open(path, "pt") as shard:
                for name in shard.keys():  # noqa: SIM118
                    tensors[name] = shard.get_tensor(name)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unloaded(folder, error) from error
    if not tensors:
        raise BadModelFile(f"{folder} has no safetensors", "Check that the folder is complete")
    return Weights(tensors, folder)


def _unloaded(folder: Path, reason: object) -> BadModelFile:
    return BadModelFile(f"cannot load the base {folder}: {reason}", "Check that the folder is complete")
