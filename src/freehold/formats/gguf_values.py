"""The typed values of a GGUF header, read through a cursor that never passes the end of the file."""

import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from freehold.core.errors import BadModelFile
from freehold.formats.reading import bad_file

MAX_HEADER = 128 << 20
MAX_STRING = 64 << 20
MAX_ITEMS = 1 << 22
"""Strings and arrays inside arrays, over the whole header."""
MAX_DEPTH = 4
STRING, ARRAY, BOOL = 8, 9, 7
_SCALARS: dict[int, tuple[str, int]] = {
    0: ("B", 1),
    1: ("b", 1),
    2: ("H", 2),
    3: ("h", 2),
    4: ("I", 4),
    5: ("i", 4),
    6: ("f", 4),
    7: ("?", 1),
    10: ("Q", 8),
    11: ("q", 8),
    12: ("d", 8),
}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_FIRST_READ = 1 << 18


class GgufArray:
    """An array of a GGUF header, already checked; it is decoded when first looked into."""

    __slots__ = ("_count", "_nested", "_raw", "_values", "type_id")

    def __init__(self, type_id: int, count: int, raw: bytes, nested: "tuple[GgufArray, ...]" = ()) -> None:
        self.type_id = type_id
        self._count, self._raw, self._nested = count, raw, nested
        self._values: list[Any] | None = None

    def values(self) -> list[Any]:
        """The elements: numbers, booleans, strings or lists."""
        if self._values is None:
            self._values = self._decode()
        return self._values

    def _decode(self) -> list[Any]:
        if self.type_id == ARRAY:
            return [array.values() for array in self._nested]
        if self.type_id != STRING:
            return list(struct.unpack(f"<{self._count}{_SCALARS[self.type_id][0]}", self._raw))
        found, position = [], 0
        for _ in range(self._count):
            start = position + 8
            position = start + _U64.unpack_from(self._raw, position)[0]
            found.append(self._raw[start:position].decode())
        return found

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())

    def __getitem__(self, index: int) -> Any:
        return self.values()[index]

    def __repr__(self) -> str:
        return f"GgufArray(type_id={self.type_id}, count={self._count})"


Value = int | float | bool | str | GgufArray


class Cursor:
    """A place in a file's header. Reads in growing pieces and not through a memory map: a file that shrinks meanwhile
    then gives an error, where a map would end the process with SIGBUS."""

    def __init__(self, file: FileIO, size: int, path: Path) -> None:
        self.size, self.position, self.items = size, 0, 0
        self._file, self._path = file, path
        self.buffer = bytearray()

    def bad(self, reason: str) -> BadModelFile:
        """The error to raise for this file."""
        return bad_file(self._path, reason)

    @property
    def left(self) -> int:
        """Bytes up to the end of the file."""
        return self.size - self.position

    def skip(self, count: int, what: str) -> int:
        """Move `count` bytes on, having them in the buffer; gives where they start."""
        start, end = self.position, self.position + count
        if end > len(self.buffer):
            self._fill(end, what)
        self.position = end
        return start

    def _fill(self, end: int, what: str) -> None:
        if end > self.size:
            raise self.bad(f"truncated inside {what}")
        if end > MAX_HEADER:
            raise self.bad(f"the header is larger than {MAX_HEADER >> 20} MiB, inside {what}")
        wanted = min(self.size, MAX_HEADER, max(end, 2 * len(self.buffer), _FIRST_READ))
        while len(self.buffer) < wanted:
            piece = self._file.read(wanted - len(self.buffer))
            if not piece and len(self.buffer) < end:
                raise self.bad(f"the file ends inside {what}, shorter than it was said to be")
            if not piece:
                return
            self.buffer += piece

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        start = self.skip(count, what)
        return bytes(memoryview(self.buffer)[start : start + count])

    def u32(self, what: str) -> int:
        """The next unsigned 32-bit number."""
        return int(_U32.unpack_from(self.buffer, self.skip(4, what))[0])

    def u64(self, what: str) -> int:
        """The next unsigned 64-bit number."""
        return int(_U64.unpack_from(self.buffer, self.skip(8, what))[0])

    def string(self, what: str, limit: int = MAX_STRING) -> str:
        """The next string, which must be UTF-8 of at most `limit` bytes."""
        length = self.u64(f"the length of {what}")
        if length > limit:
            raise self.bad(f"{what} is {length} bytes long, more than {limit}")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError as error:
            raise self.bad(f"{what} is not UTF-8 at its byte {error.start}") from error

    def count_items(self, count: int, what: str) -> None:
        """Refuse what would take long to walk through."""
        self.items += count
        if self.items > MAX_ITEMS or count * 8 > self.left:
            raise self.bad(f"{what} claims {count} elements with {self.left} bytes left")


def read_value(cursor: Cursor, type_id: int, what: str) -> Value:
    """The value of type `type_id` at the cursor. Raises BadModelFile."""
    if type_id == STRING:
        return cursor.string(what)
    if type_id == ARRAY:
        return _array(cursor, what, 1)
    if type_id not in _SCALARS:
        raise cursor.bad(f"{what} has the unknown value type {type_id}")
    code, size = _SCALARS[type_id]
    raw = cursor.take(size, what)
    _check_bools(cursor, type_id, raw, what)
    value: int | float | bool = struct.unpack(f"<{code}", raw)[0]
    return value


def _array(cursor: Cursor, what: str, depth: int) -> GgufArray:
    if depth > MAX_DEPTH:
        raise cursor.bad(f"{what} nests arrays deeper than {MAX_DEPTH}")
    type_id, count = cursor.u32(f"the element type of {what}"), cursor.u64(f"the length of {what}")
    if type_id == ARRAY:
        cursor.count_items(count, what)
        return GgufArray(ARRAY, count, b"", tuple(_array(cursor, what, depth + 1) for _ in range(count)))
    if type_id == STRING:
        return GgufArray(STRING, count, _strings(cursor, count, what))
    if type_id not in _SCALARS:
        raise cursor.bad(f"{what} has the unknown element type {type_id}")
    raw = cursor.take(count * _SCALARS[type_id][1], what)
    _check_bools(cursor, type_id, raw, what)
    return GgufArray(type_id, count, raw)


def _strings(cursor: Cursor, count: int, what: str) -> bytes:
    """The raw bytes of `count` strings, each checked. Vocabularies have hundreds of thousands: this loop stays flat."""
    cursor.count_items(count, what)
    buffer, position, first = cursor.buffer, cursor.position, cursor.position
    try:
        for _ in range(count):
            if position + 8 > len(buffer):
                cursor.skip(position + 8 - cursor.position, what)
            start = position + 8
            position = start + _U64.unpack_from(buffer, position)[0]
            if position > len(buffer):
                cursor.skip(position - cursor.position, what)
            buffer[start:position].decode()
    except UnicodeDecodeError as error:
        raise cursor.bad(f"a string of {what} is not UTF-8") from error
    cursor.position = position
    return bytes(memoryview(buffer)[first:position])


def _check_bools(cursor: Cursor, type_id: int, raw: bytes, what: str) -> None:
    if type_id == BOOL and raw.strip(b"\0\1"):
        raise cursor.bad(f"{what} holds a truth value that is neither 0 nor 1")
