"""JSON: one array of objects."""

from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadData
from freehold.data.readers import Reader, Table, columns_of
from freehold.data.text import read_text


def read(path: Path) -> Table:
    """The records of a JSON array; their line is their number, from 1. Raises BadData."""
    try:
        values = msgspec.json.decode(read_text(path))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadData(f"{path} is not JSON: {error}", "Give an array of objects, or one object a line") from error
    _check(path, values)
    return Table(tuple(enumerate(values, 1)), columns_of(iter(values)))


def _check(path: Path, values: Any) -> None:
    if not isinstance(values, list):
        raise BadData(f"{path} holds no array", "Give an array of objects, or one object a line")
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise BadData(f"{path} item {number} is not an object", 'Each item must be like {"prompt": "…"}')


def _likelihood(head: bytes, suffix: str) -> int:
    if not head.lstrip().startswith(b"["):
        return 0
    return 60 if suffix == ".json" else 50


READER = Reader("json", _likelihood, read)
