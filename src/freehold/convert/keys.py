"""What a GGUF header says of its model under the name of its architecture, read with bounds."""

from typing import Any

import numpy as np

from freehold.core.errors import BadModelFile
from freehold.formats.gguf import GgufHeader
from freehold.formats.gguf_values import GgufArray
from freehold.formats.reading import bad_file, shown

_LARGEST = (1 << 31) - 1
_LARGEST_F32 = 3.4e38


class Keys:
    """The metadata of a model; every getter checks type and range, and raises BadModelFile naming the key."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.tensors = {tensor.name: tensor for tensor in header.tensors}

    def bad(self, reason: str) -> BadModelFile:
        """The error to raise for this file."""
        return bad_file(self.header.path, reason)

    def has(self, key: str) -> bool:
        """Whether the model says anything under `key`."""
        return self._full(key) in self.header.metadata

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
            raise self.bad(f"{self._full(key)} is {shown(value)}, not a whole number from 1 to {_LARGEST}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number that F32 can hold."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST_F32:
            raise self.bad(f"{self._full(key)} is {shown(value)}, not a positive number of F32")
        # The file has F32: this is the number that it was rounded from.
        return float(str(np.float32(value)))

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.bad(f"{self._full(key)} is not a string")
        return value

    def flags(self, key: str, count: int) -> list[bool]:
        """`count` truth values."""
        value = self._value(key, None)
        flags = value.values() if isinstance(value, GgufArray) and len(value) == count else []
        if len(flags) != count or not all(flag in (0, 1) for flag in flags):
            raise self.bad(f"{self._full(key)} is not a truth value for each of {count} layers")
        return [bool(flag) for flag in flags]

    def _full(self, key: str) -> str:
        return f"{self.header.architecture}.{key}"

    def _value(self, key: str, default: Any) -> Any:
        value = self.header.metadata.get(self._full(key), default)
        if value is None:
            raise self.bad(f"{self._full(key)} is missing")
        return value
