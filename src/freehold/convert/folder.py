"""From a safetensors folder to a GGUF file: reads the config, asks the family for a plan, streams the tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from freehold.convert import pooling
from freehold.convert.config import Config
from freehold.convert.dtypes import STORED, convert, raw, to_f32
from freehold.convert.families import family
from freehold.convert.output import OutTensor, header_bytes, padding, write_file
from freehold.convert.plan import FamilyPlan, Metadata, TensorPlan
from freehold.convert.tokenizer import tokenizer_metadata
from freehold.convert.weights import Weights
from freehold.core.errors import NotFound, Unsupported
from freehold.formats.reading import shown

DTYPES = ("auto", "f32", "f16", "bf16")
_FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}
_QUANTIZATION_VERSION = 2
_PIECE = 1 << 22
"""Weights converted at a time: 16 MiB of F32."""


@dataclass(frozen=True)
class Prepared:
    """A GGUF file of which everything is known but the tensors' bytes."""

    architecture: str
    matrices: str
    header: bytes
    plans: list[TensorPlan]
    tensors: list[OutTensor]
    weights: Weights

    @classmethod
    def of(cls, architecture: str, metadata: Metadata, plans: list[TensorPlan], weights: Weights, dtype: str) -> Self:
        """`metadata` comes after what every file says of itself."""
        matrices = matrix_dtype(dtype, weights)
        metadata = {
            "general.type": "model",
            "general.file_type": _FILE_TYPES[matrices],
            "general.quantization_version": _QUANTIZATION_VERSION,
            **metadata,
        }
        tensors = [_out(tensor, matrices) for tensor in plans]
        return cls(architecture, matrices, header_bytes(architecture, metadata, tensors), plans, tensors, weights)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(tensor.size + padding(tensor.size) for tensor in self.tensors)

    def write(self, out: Path) -> None:
        """Raises DiskFull, NotFound, BadModelFile and Unsupported, and then leaves nothing behind."""
        pieces = (
            piece
            for plan, stored in zip(self.plans, self.tensors, strict=True)
            for piece in _pieces(plan, stored, self.weights)
        )
        write_file(out, self.header, self.tensors, pieces)


def prepare(folder: Path, dtype: str = "auto") -> Prepared:
    """Look at a folder of a model. Raises BadModelFile, Unsupported, NotFound."""
    if (folder / "adapter_config.json").exists():
        raise Unsupported(
            f"{shown(folder, 400)} is an adapter, not a model", "Merge it into its base, or name that: --base"
        )
    if not (folder / "config.json").exists():
        raise NotFound(f"{shown(folder, 400)} holds no config.json", "Name a folder with a model in safetensors format")
    planned, config, weights = plan(folder)
    pooled = pooling.metadata(folder, config, planned.architecture)
    metadata = {**planned.metadata, **pooled, **tokenizer_metadata(folder, config, planned.vocab_size)}
    return Prepared.of(planned.architecture, metadata, planned.tensors, weights, dtype)


def plan(folder: Path) -> tuple[FamilyPlan, Config, Weights]:
    """What the folder's family makes of it."""
    config, weights = Config.read(folder / "config.json"), Weights.open(folder)
    return family(config).plan(config, weights), config, weights


def matrix_dtype(dtype: str, weights: Weights) -> str:
    """The format of matrices for one of DTYPES. Raises Unsupported."""
    if dtype not in DTYPES:
        raise Unsupported(f"dtype {dtype!r} is not supported", f"Use one of: {', '.join(DTYPES)}")
    if dtype != "auto":
        return dtype.upper()
    # F16 for F32: what trained in F32 fits F16 nearly always, and where a value does not, the conversion says so.
    return "BF16" if weights.dtype() == "BF16" else "F16"


def _out(tensor: TensorPlan, matrices: str) -> OutTensor:
    dtype = matrices if len(tensor.shape) > 1 else "F32"
    return OutTensor(tensor.name, tensor.shape, dtype, int(np.prod(tensor.shape)) * STORED[dtype].itemsize)


def _pieces(tensor: TensorPlan, stored: OutTensor, weights: Weights) -> Iterator[memoryview]:
    """The tensor's values in order, a few rows at a time."""
    if tensor.values is not None:
        yield raw(convert(tensor.values, "F32", stored.type, tensor.name))
        return
    source = weights.get(tensor.source)
    step = max(1, _PIECE // (int(np.prod(tensor.shape[1:])) or 1))
    for start in range(0, tensor.shape[0], step):
        rows = slice(start, start + step) if tensor.rows is None else tensor.rows[start : start + step]
        values, dtype = source.array[rows], source.dtype
        if tensor.plus:
            values, dtype = to_f32(values, dtype) + np.float32(tensor.plus), "F32"
        yield raw(convert(values, dtype, stored.type, tensor.source))
