"""tokenizer.model: SentencePiece's protocol-buffer file, read in Python with bounds.

Field numbers as in sentencepiece_model.proto, which SentencePiece publishes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from freehold.core.errors import BadModelFile, Unsupported
from freehold.formats.reading import bad_file, regular_file, shown

_LIMIT = 64 << 20
_MOST_PIECES = 1 << 22
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_BPE = 2
_KINDS = range(1, 7)
"""Normal, unknown, control, user-defined, unused, byte: the numbers that llama.cpp has for token types too."""


class Piece(NamedTuple):
    """A token of the model; `kind` is one of _KINDS."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """What a byte-pair model with byte fallback says. `special` maps unk, bos, eos and pad to ids, -1 for none."""

    pieces: list[Piece]
    special: dict[str, int]
    prefix: bool
    """Whether a space goes before every text."""


Fields = dict[int, list[int | float | bytes]]


def read_model(path: Path) -> SentencePieceModel:
    """Raises NotFound, BadModelFile, and Unsupported for what llama.cpp would cut differently."""
    with regular_file(path) as (file, size):
        if size > _LIMIT:
            raise bad_file(path, f"is {size} bytes long, more than {_LIMIT}")
        data = file.readall()
    outer = _Message(path, data)
    trainer, normalizer = outer.inner(_TRAINER), outer.inner(_NORMALIZER)
    _check(path, trainer, normalizer)
    special = {key: trainer.integer(field, default) for key, field, default in _SPECIAL}
    return SentencePieceModel(_pieces(outer), special, normalizer.integer(3, 1) != 0)


_SPECIAL = (("unk", 40, 0), ("bos", 41, 1), ("eos", 42, 2), ("pad", 43, -1))


def _check(path: Path, trainer: "_Message", normalizer: "_Message") -> None:
    unsupported = {
        "it is not a byte-pair model": trainer.integer(3, 1) != _BPE,
        "it has no byte fallback": not trainer.integer(35, 0),
        "it writes spaces after words": bool(trainer.integer(24, 0)),
        "it removes spaces": bool(normalizer.integer(4, 1)),
        "it does not mark spaces": not normalizer.integer(5, 1),
        "it normalises text": bool(normalizer.blob(2)) or bool(normalizer.blob(6)),
    }
    for reason, found in unsupported.items():
        if found:
            raise Unsupported(f"{shown(path, 400)} is not supported: {reason}", "Use another model")


def _pieces(outer: "_Message") -> list[Piece]:
    found = outer.fields.get(_PIECES, [])
    if not 0 < len(found) <= _MOST_PIECES:
        raise bad_file(outer.path, f"has {len(found)} pieces")
    return [_piece(_Message(outer.path, data)) for data in found if isinstance(data, bytes)]


def _piece(message: "_Message") -> Piece:
    kind = message.integer(3, 1)
    if kind not in _KINDS:
        raise bad_file(message.path, f"a piece has kind {kind}")
    try:
        return Piece(message.blob(1).decode(), message.number(2), kind)
    except UnicodeDecodeError as error:
        raise bad_file(message.path, "a piece is not UTF-8") from error


class _Message:
    """One message of the wire format, split into fields; of a field that must be single, the last counts."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.fields = path, Fields()
        for number, value in _fields(path, data):
            self.fields.setdefault(number, []).append(value)

    def _last(self, field: int, kind: type, default: int | float | bytes) -> int | float | bytes:
        value = self.fields.get(field, [default])[-1]
        if not isinstance(value, kind):
            raise bad_file(self.path, f"field {field} has the wrong type")
        return value

    def integer(self, field: int, default: int) -> int:
        value = int(self._last(field, int, default))
        return value - (1 << 64) if value >= 1 << 63 else value

    def number(self, field: int) -> float:
        value = float(self._last(field, float, 0.0))
        if not abs(value) < 3e38:
            raise bad_file(self.path, "a score is not a number")
        return value

    def blob(self, field: int) -> bytes:
        value = self._last(field, bytes, b"")
        return value if isinstance(value, bytes) else b""

    def inner(self, field: int) -> "_Message":
        return _Message(self.path, self.blob(field))


def _fields(path: Path, data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(path, data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(path, data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(path, data, at)
        else:
            length = {1: 8, 5: 4}.get(wire, len(data) + 1)
        if length > len(data) - at:
            raise _cut(path)
        chunk, at = data[at : at + length], at + length
        yield number, struct.unpack("<f", chunk)[0] if wire == 5 else chunk


def _varint(path: Path, data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value & ((1 << 64) - 1), at + i + 1
    raise _cut(path)


def _cut(path: Path) -> BadModelFile:
    return bad_file(path, "is not a SentencePiece model, or is cut off")
