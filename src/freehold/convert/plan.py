"""What a converted file will hold: values that a family and the tokenizer fill in, and the writer carries out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MetadataValue = bool | int | float | str | list[str] | list[int] | list[float] | list[bool]
"""int is written as UINT32, float as FLOAT32, a list of int as INT32 and of float as FLOAT32."""

Metadata = dict[str, MetadataValue]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class TensorPlan:
    """One tensor to write. `shape` is in the order of numpy and safetensors (the last axis is contiguous)."""

    name: str
    shape: tuple[int, ...]
    source: str = ""
    """The tensor of the folder that it is made from."""
    rows: Rows | None = None
    """Which row of the source each row is; None for all, in order."""
    plus: float = 0.0
    """Added to every value, in F32."""
    values: NDArray[Any] | None = None
    """The F32 values themselves, when no tensor of the folder holds them."""


@dataclass(frozen=True)
class FamilyPlan:
    """A family's part of a GGUF file."""

    architecture: str
    vocab_size: int
    metadata: Metadata
    tensors: list[TensorPlan]
