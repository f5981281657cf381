"""JSON: one array of objects."""

from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadData
from freehold.data.readers import Reader, Record, Table, columns_of, parted
from freehold.data.text import read_text


def read(path: Path) -> Table:
    """The records of a JSON array; their line is their number, from 1. Raises BadData."""
    try:
        values = msgspec.json.decode(read_text(path))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadData(f"{path} is not JSON: {error}", "Give an array of objects, or one object a line") from error
    if not isinstance(values, list):
        raise BadData(f"{path} holds no array", "Give an array of objects, or one object a line")
    records, faults = parted(enumerate(values, 1), _object)
    return Table(records, columns_of(records), faults=faults, unit="item")


def _object(value: Any) -> Record:
    if not isinstance(value, dict):
        raise BadData("is not an object", 'Each item must be like {"prompt": "…"}')
    return value


def _likelihood(head: bytes, suffix: str) -> int:
    if not head.lstrip().startswith(b"["):
        return 0
    return 60 if suffix == ".json" else 50


READER = Reader("json", _likelihood, read)
