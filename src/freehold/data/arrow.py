"""Columns of Arrow that Python has no values for: times finer or further than its own, text that is not UTF-8."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from freehold.core.errors import BadData


def records(path: Path, table: Any) -> list[dict[str, Any]]:
    """A dictionary for each row. A column that Python cannot have is spelt out: perhaps nobody uses it.

    Raises BadData naming a column that nothing helps.
    """
    try:
        return list(table.to_pylist())
    except (ValueError, OverflowError):  # pyarrow's own are ValueErrors, too
        for index, name in enumerate(table.column_names):
            table = table.set_column(index, name, _readable(path, name, table.column(index)))
    return list(table.to_pylist())


def _readable(path: Path, name: str, column: Any) -> Any:
    first: Exception | None = None
    for way in _ways(column):
        try:
            spelt = way()
            spelt.to_pylist()
        except (ValueError, OverflowError, NotImplementedError) as error:
            first = first or error
        else:
            return spelt
    remedy = "Write the file again without it, or with text in it"
    raise BadData(f"{path}: column {name!r} cannot be read: {first}", remedy) from first


def _ways(column: Any) -> Iterator[Callable[[], Any]]:
    """The column as it is, with its times as text, with those in UTC where their zone is not known, as bytes."""
    import pyarrow as arrow

    yield lambda: column
    yield lambda: column.cast(_mapped(column.type, _text))
    utc = _mapped(column.type, _in_utc)
    yield lambda: column.cast(utc).cast(_mapped(utc, _text))
    if arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
        yield lambda: column.cast(arrow.binary())


def _text(leaf: Any) -> Any:
    """Text in place of a time."""
    import pyarrow as arrow

    return arrow.string() if arrow.types.is_temporal(leaf) else leaf


def _in_utc(leaf: Any) -> Any:
    """A time without its zone."""
    import pyarrow as arrow

    return arrow.timestamp(leaf.unit) if arrow.types.is_timestamp(leaf) else leaf


def _mapped(type: Any, change: Callable[[Any], Any]) -> Any:
    """A type with the types inside it changed."""
    import pyarrow as arrow

    kinds = arrow.types
    if kinds.is_struct(type):
        return arrow.struct([arrow.field(field.name, _mapped(field.type, change)) for field in type])
    if kinds.is_map(type):
        return arrow.map_(_mapped(type.key_type, change), _mapped(type.item_type, change))
    if kinds.is_list(type):
        return arrow.list_(_mapped(type.value_type, change))
    if kinds.is_large_list(type):
        return arrow.large_list(_mapped(type.value_type, change))
    if kinds.is_fixed_size_list(type):
        return arrow.list_(_mapped(type.value_type, change), type.list_size)
    return _mapped(type.value_type, change) if kinds.is_dictionary(type) else change(type)
