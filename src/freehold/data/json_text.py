"""JSON as it comes in data files, whatever they are called: an object a line, or one array of objects."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadData
from freehold.data.readers import Record, Table, columns_of, counted, parted

_SAID = re.compile(r"\S[^\n]*")
"""What a line says: found one by one, since a file may have millions."""
_REMEDY = "Give an array of objects, or one object a line"


def lines_in(text: str, notes: tuple[str, ...] = ()) -> Table:
    """The records of JSON Lines."""
    records, faults = parted(counted(text.split("\n")), _line)
    return Table(records, columns_of(records), notes, faults)


def decoded(path: Path, text: str) -> Any:
    """What the whole text says. Raises BadData where it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadData(f"{path} is not JSON: {error}", _REMEDY) from error


def array_in(path: Path, value: Any, notes: tuple[str, ...] = ()) -> Table:
    """The records of the array that a value is or holds; their line is their number, from 1. Raises BadData."""
    values, found = _array(path, value)
    records, faults = parted(enumerate(values, 1), _item)
    return Table(records, columns_of(records), (*notes, *found), faults, unit="item")


def is_lines(text: str) -> bool:
    """Whether the first line is an object by itself."""
    return any(isinstance(value, dict) for value in _first(text, 1))


def is_array(text: str) -> bool:
    """Whether it is one array, even one that breaks off, or an object over several lines."""
    first = _first(text, 2)
    if isinstance(first[0], dict):
        return False
    if text.lstrip().startswith("["):
        return len(first) == 1 or not (isinstance(first[0], list) or isinstance(first[1], dict))
    return isinstance(_value(text), dict)


def _first(text: str, count: int) -> list[Any]:
    """What the first lines that are not blank say, each by itself."""
    return [_value(line[0]) for line in islice(_SAID.finditer(text), count)]


def _value(text: str) -> Any:
    """What a text says; None where it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _line(line: str) -> Record:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadData(f"is not JSON: {error}", "Each line must be one whole object") from error
    if not isinstance(value, dict):
        raise BadData("is not an object", 'Each line must be an object, as in {"prompt": "…"}')
    return value


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


def _item(value: Any) -> Record:
    if not isinstance(value, dict):
        raise BadData("is not an object", 'Each item must be like {"prompt": "…"}')
    return value
