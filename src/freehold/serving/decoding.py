"""Bodies as the types of a dialect's wire, and what is wrong with one in words that name the field."""

import asyncio
import re
from typing import Any, TypeVar

import msgspec

from freehold.core.errors import BadInput
from freehold.guard import strict_json

_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"field `(?P<name>[^`]*)`")
_SHORT = 256 << 10
"""Bytes that are read in a few milliseconds."""
_LONGEST = 300
"""Characters that an answer repeats of a body's own names and values."""
T = TypeVar("T")


async def decoded(body: bytes, kind: type[T], *, nulls: bool = True) -> T:
    """The same beside the event loop, where reading it takes so long that others would wait."""
    if len(body) <= _SHORT:
        return decode(body, kind, nulls=nulls)
    return await asyncio.to_thread(decode, body, kind, nulls=nulls)


def decode(body: bytes, kind: type[T], *, nulls: bool = True) -> T:
    """The request in a body; without `nulls`, a field that is null is as one that is not there.

    Raises BadInput naming the wrong field.
    """
    value = strict_json.parse(body)
    if not nulls and isinstance(value, dict):
        value = {name: given for name, given in value.items() if given is not None}
    return converted(value, kind)


def converted(value: Any, kind: type[T]) -> T:
    """The same of JSON that was read already."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from error


def _wrong_field(text: str) -> BadInput:
    place, field = _PLACE.search(text), _FIELD.search(text)
    path = place["path"] if place else ""
    if field:
        path = f"{path}.{field['name']}" if path else field["name"]
    path = path[:_LONGEST]
    what = _PLACE.sub("", text).replace("Object contains unknown field", "unrecognised field")[:_LONGEST]
    return BadInput(f"{path}: {what}" if path else what, "See the API reference", param=path or None)
