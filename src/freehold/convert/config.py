"""config.json, read with bounds, in the spellings of transformers 4 and 5."""

from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadModelFile
from freehold.formats.reading import bad_file, regular_file, shown

_LARGEST = (1 << 31) - 1
_LARGEST_F32 = 3.4e38


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """A JSON object of at most `limit` bytes. Raises NotFound, BadModelFile."""
    with regular_file(path) as (file, size):
        if size > limit:
            raise bad_file(path, f"is {size} bytes long, more than {limit}")
        data = file.readall()
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_file(path, f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise bad_file(path, "not a JSON object")
    return value


class Config:
    """The values of a config.json; every getter checks type and range, and raises BadModelFile naming the key."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    @classmethod
    def read(cls, path: Path) -> "Config":
        """Raises NotFound, BadModelFile."""
        return cls(path, read_json(path, 16 << 20))

    def bad(self, reason: str) -> BadModelFile:
        """The error to raise for this config."""
        return bad_file(self.path, reason, "Fetch the model again, or correct the value")

    def section(self, key: str) -> "Config":
        """The object under `key`, empty when absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.bad(f"{key} is not an object")
        return Config(self.path, value or {})

    def has(self, key: str) -> bool:
        """Whether `key` is there and not null."""
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int = _LARGEST) -> int:
        """A whole number from `low` to `high`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(f"{key} is {shown(repr(value))}, not a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number that F32 can hold."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST_F32:
            raise self.bad(f"{key} is {shown(repr(value))}, not a positive number of F32")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.bad(f"{key} is {shown(repr(value))}, neither true nor false")
        return value

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.bad(f"{key} is {shown(repr(value))}, not a string")
        return value

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.bad(f"{key} is missing")
        return value

    def architecture(self) -> str:
        """The class that the model says it is. Raises BadModelFile."""
        named = self.values.get("architectures")
        name = named[0] if isinstance(named, list) and named else None
        if not isinstance(name, str):
            raise self.bad("architectures does not name the model's class")
        return name

    def with_defaults(self, defaults: dict[str, Any]) -> "Config":
        """The same config with values for keys that are absent."""
        return Config(self.path, {**defaults, **self.values})

    def rope(self, base: float) -> "Config":
        """The rope settings of layers that attend to everything.

        They are `rope_parameters` (transformers 5, one for each kind of layer where kinds differ), else `rope_scaling`
        with `rope_theta` beside it; `base` stands in for a `rope_theta` that is nowhere.
        """
        found = self._rope_values()
        if isinstance(inner := found.get("full_attention"), dict):
            found = inner
        return self._rope({"rope_theta": self.values.get("rope_theta"), **found}, base)

    def sliding_rope(self, base: float, key: str) -> "Config":
        """The rope settings of layers with a sliding window; `key` holds their base in the older spelling."""
        inner = self._rope_values().get("sliding_attention")
        return self._rope(inner if isinstance(inner, dict) else {"rope_theta": self.values.get(key)}, base)

    def _rope_values(self) -> dict[str, Any]:
        return self.section("rope_parameters" if self.has("rope_parameters") else "rope_scaling").values

    def _rope(self, found: dict[str, Any], base: float) -> "Config":
        known = {key: value for key, value in found.items() if value is not None}
        return Config(self.path, {"rope_type": known.get("type", "default"), "rope_theta": base} | known)
