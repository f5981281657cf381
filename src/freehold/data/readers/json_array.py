"""JSON: one array of objects, by itself or as the one such list in an object."""

from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadData
from freehold.data.readers import Reader, Record, Table, columns_of, jsonl, parted
from freehold.data.text import read_text

_REMEDY = "Give an array of objects, or one object a line"


def read(path: Path) -> Table:
    """The records of a JSON array; their line is their number, from 1. Raises BadData."""
    text = read_text(path)
    try:
        values = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        if _is_lines(text):
            return jsonl.read(path)  # a common name for JSON Lines, too
        raise BadData(f"{path} is not JSON: {error}", _REMEDY) from error
    values, notes = _array(path, values)
    records, faults = parted(enumerate(values, 1), _object)
    return Table(records, columns_of(records), notes, faults, unit="item")


def _is_lines(text: str) -> bool:
    """Whether the first line is an object by itself."""
    line = next(line for line in text.split("\n") if line.strip())
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _array(path: Path, values: Any) -> tuple[list[Any], tuple[str, ...]]:
    """The list of records, and where it was found."""
    if isinstance(values, list):
        return values, ()
    lists = {key: value for key, value in values.items() if _records(value)} if isinstance(values, dict) else {}
    if len(lists) != 1:
        some = f"; lists in it: {', '.join(map(repr, lists))}" if lists else ""
        raise BadData(f"{path} holds no array{some}", _REMEDY)
    ((key, found),) = lists.items()
    return found, (f"the rows are the list {key!r}",)


def _records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _object(value: Any) -> Record:
    if not isinstance(value, dict):
        raise BadData("is not an object", 'Each item must be like {"prompt": "…"}')
    return value


def _likelihood(head: bytes, suffix: str) -> int:
    begin = head.lstrip()[:1]
    if begin == b"{":
        return 55 if suffix == ".json" else 0
    return (60 if suffix == ".json" else 50) if begin == b"[" else 0


READER = Reader("json", _likelihood, read)
