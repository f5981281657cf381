"""Forms with a file in them, read as they come: the file goes to the disk, the fields are few and short."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from freehold.core.errors import BadInput, TooLarge, UnsupportedMedia
from freehold.serving.files import Files, Upload
from freehold.serving.routes import Incoming

_MAX_PARTS = 32
_MAX_HEAD = 4 << 10
"""Bytes of a part's headers."""
_MAX_FIELD = 4 << 10
_MEDIA = re.compile(rb"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}")


class Part(NamedTuple):
    """The beginning of a field or file."""

    name: str
    filename: str | None
    media: str = ""


class Form(NamedTuple):
    """A form that was read: its short fields, and the file."""

    fields: dict[str, str]
    filename: str
    upload: Upload
    media: str
    """The file's media type, as its sender says; empty if not."""


@asynccontextmanager
async def form(incoming: Incoming, files: Files, field: str = "file") -> AsyncIterator[Form]:
    """The form in a body, with the file in `field` on the disk until the block ends.

    Raises BadInput, UnsupportedMedia, TooLarge, NoRoom and DiskFull.
    """
    declared = incoming.headers.get("content-length", "0")
    await asyncio.to_thread(files.admit, int(declared[:18]) if declared.isdecimal() else 0)
    with files.receiving() as upload:
        fields: dict[str, bytes] = {}
        filename, part, media = None, Part("", None), ""
        async with aclosing(_pieces(incoming)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Part):
                    part = piece
                    filename = _named(filename, part, field)
                    media = part.media if part.name == field else media
                elif part.name == field:
                    await asyncio.to_thread(upload.write, piece)
                else:
                    fields[part.name] = _grown(fields.get(part.name, b""), piece, part.name)
        if filename is None:
            raise BadInput(f"the form has no file in {field!r}", f"Send it as the form's field {field}", param=field)
        yield Form({name: value.decode("utf-8", "replace") for name, value in fields.items()}, filename, upload, media)


def _named(filename: str | None, part: Part, field: str) -> str | None:
    """The file's name so far, after this part."""
    if part.name != field:
        return filename
    if filename is not None:
        raise BadInput(f"the form has several files in {field!r}", "Send one at a time", param=field)
    return part.filename or field


def _grown(value: bytes, piece: bytes, name: str) -> bytes:
    if len(value) + len(piece) > _MAX_FIELD:
        raise TooLarge(
            f"the form's field {name[:80]!r} is longer than {_MAX_FIELD} bytes", "Send less", param=name[:80]
        )
    return value + piece


async def _pieces(incoming: Incoming) -> AsyncGenerator[Part | bytes, None]:
    """The parts of a form, each followed by its bytes."""
    reader = _Reader(_boundary(incoming.headers.get("content-type", "")))
    async with aclosing(incoming.chunks()) as chunks:
        async for chunk in chunks:
            for piece in reader.feed(chunk):
                yield piece
    if not reader.ended:
        raise BadInput("the form ends before its last boundary", "Send all of it")


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
        raise UnsupportedMedia(
            f"the content type is {kind[:80].decode('latin-1')!r}", "Send a form: 'Content-Type: multipart/form-data'"
        )
    return boundary


class _Reader:
    """Feeds the parser and collects what it calls back with, within bounds."""

    def __init__(self, boundary: bytes) -> None:
        self.ended = False
        self._found: list[Part | bytes] = []
        self._parts = 0
        self._head: list[tuple[bytes, bytes]] = []
        self._name = self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> list[Part | bytes]:
        """What this piece of the body adds. Raises BadInput."""
        self._found = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadInput(f"the form cannot be read: {error}"[:300], "Send multipart/form-data") from error
        return self._found

    def _begin(self) -> None:
        self._parts += 1
        self._head = []
        if self._parts > _MAX_PARTS:
            raise TooLarge(f"the form has more than {_MAX_PARTS} parts", "Send fewer")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_head()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_head()

    def _header_end(self) -> None:
        self._head.append((self._name.lower(), self._value))
        self._name = self._value = b""

    def _check_head(self) -> None:
        size = len(self._name) + len(self._value) + sum(len(name) + len(value) for name, value in self._head)
        if size > _MAX_HEAD:
            raise TooLarge(f"the headers of a part are longer than {_MAX_HEAD} bytes", "Send shorter ones")

    def _headers_end(self) -> None:
        head = dict(self._head)
        _, options = parse_options_header(head.get(b"content-disposition", b""))
        if head.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            raise BadInput("a part of the form is encoded", "Send its bytes as they are")
        if b"name" not in options:
            raise BadInput("a part of the form has no name", "Name each part")
        filename = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None
        media, _ = parse_options_header(head.get(b"content-type", b""))
        said = media.decode("ascii", "replace").lower() if _MEDIA.fullmatch(media) else ""
        self._found.append(Part(options[b"name"].decode("utf-8", "replace"), filename, said))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._found.append(data[start:end])

    def _end(self) -> None:
        self.ended = True
