"""Images that clients send: their kind and size read from the header, in Python, before any decoder sees them.

PNG (https://www.w3.org/TR/png-3), JPEG (ITU T.81), GIF (https://www.w3.org/Graphics/GIF/spec-gif89a.txt) and WebP
(RFC 9649). An image comes in a request, as base64: nothing is ever fetched.
"""

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from freehold.core.errors import BadInput, TooLarge
from freehold.core.request import MAX_IMAGE, MAX_SIDE, Image
from freehold.formats.reading import regular_file, shown

MAX_PIXELS = 50_000_000
MAX_RATIO = 200
"""Of the longer side to the shorter: what vision models are made for, and their resizing can bear."""
MAX_BASE64 = 4 * (MAX_IMAGE // 3 + 2)
"""Characters of an image in base64, with some to spare for line ends."""
MAX_URL = MAX_BASE64 + 256
MediaType = Literal["image/png", "image/jpeg", "image/webp", "image/gif"]
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_REMEDY = "Send a whole PNG, JPEG, WebP or GIF file"
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""JPEG's markers of frames that decoders know: baseline, extended, progressive."""
_NOT_FRAMES = frozenset({0xC4, 0xC8, 0xCC})
"""Markers among those of frames that are none: tables, and one that is reserved."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG's markers that no length follows."""


class Facts(NamedTuple):
    """What a header says; the size in pixels."""

    media_type: MediaType
    width: int
    height: int


class _Short(Exception):
    """The file ends inside its header."""


def read(data: bytes) -> Facts:
    """The kind and size of an image. Raises BadInput for what is none, and TooLarge for one of too many pixels."""
    try:
        found = next((facts for reader in _READERS if (facts := reader(data)) is not None), None)
    except (_Short, struct.error, IndexError) as error:
        raise BadInput("an image ends inside its header", _REMEDY) from error
    if found is None:
        raise BadInput("an image is no PNG, JPEG, WebP or GIF file", _REMEDY)
    _check_size(found.width, found.height)
    return found


def _check_size(width: int, height: int) -> None:
    shorter, longer = sorted((width, height))
    if shorter < 1:
        raise BadInput(f"an image of {width} x {height} pixels has none", _REMEDY)
    if longer > MAX_SIDE or width * height > MAX_PIXELS:
        raise TooLarge(
            f"an image of {width} x {height} pixels is too large", f"Send at most {MAX_PIXELS // 10**6} million pixels"
        )
    if longer > MAX_RATIO * shorter:
        raise BadInput(f"an image of {width} x {height} pixels is too narrow", f"Send at most 1 x {MAX_RATIO}")


def of_base64(text: str, stated: str = "", *, param: str | None = None) -> Image:
    """The image that a request holds in base64; if `stated` it must be of that media type.

    Raises BadInput and TooLarge.
    """
    try:
        kind = _taken(stated) if stated else ""
        data = _decoded(text)
        facts = read(data)
        if kind not in ("", facts.media_type):
            raise BadInput(f"an image is called {kind} and is {facts.media_type}", "Say what it is")
    except BadInput as error:
        error.param = param
        raise
    return Image(data, *facts)


def of_url(url: str, *, param: str | None = None) -> Image:
    """The image in a data URL (RFC 2397). That it says another type of image than it is counts for nothing, since
    many clients say the same of all. Raises as `of_base64`, for an address too.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme.lower() != "data":
        what = f"{scheme[:16].lower()}: addresses" if colon else "what is no data: URL"
        raise BadInput(
            f"images are not fetched from {what}", "Send the image itself: data:image/png;base64,…", param=param
        )
    head, comma, text = rest.partition(",")
    kind, *attributes = [each.strip().lower() for each in head.split(";")]
    if not comma or "base64" not in attributes:
        raise BadInput("an image's data: URL is not in base64", "Write data:image/png;base64,…", param=param)
    try:
        _taken(kind)
    except BadInput as error:
        error.param = param
        raise
    return of_base64(text, param=param)


def of_file(path: Path) -> Image:
    """The image in a file. Raises NotFound, BadInput and TooLarge naming it."""
    with regular_file(path) as (file, size):
        if size > MAX_IMAGE:
            raise TooLarge(f"{shown(path, 400)} has {size} bytes", f"Take an image of at most {MAX_IMAGE >> 20} MiB")
        data = file.read(MAX_IMAGE)
    try:
        return Image(data, *read(data))
    except BadInput as error:
        raise type(error)(f"{shown(path, 400)}: {error.message}", error.remedy) from error


def url_of(image: Image) -> str:
    """The image as a data URL."""
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"


def _taken(stated: str) -> str:
    """The media type, if images of it are taken. Raises BadInput."""
    kind = _ALIASES.get(stated.lower(), stated.lower())
    if kind not in ("image/png", "image/jpeg", "image/webp", "image/gif"):
        raise BadInput(f"files of type {stated[:80]!r} are not looked at", "Send PNG, JPEG, WebP or GIF")
    return kind


def _decoded(text: str) -> bytes:
    if len(text) > MAX_BASE64:
        raise TooLarge("an image is too large", f"Send at most {MAX_IMAGE >> 20} MiB")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = _patiently(text)
    if not data:
        raise BadInput("an image is empty", _REMEDY)
    if len(data) > MAX_IMAGE:
        raise TooLarge(f"an image has {len(data)} bytes", f"Send at most {MAX_IMAGE >> 20} MiB")
    return data


def _patiently(text: str) -> bytes:
    """The same of base64 with line ends, or without the padding at its end."""
    plain = "".join(text.split())
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:
        raise BadInput("an image is not in base64", "Encode the file's bytes in base64") from error


def _png(data: bytes) -> Facts | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if length != 13 or kind != b"IHDR" or max(width, height) >= 1 << 31:
        raise BadInput("an image has no PNG header", _REMEDY)
    return Facts("image/png", width, height)


def _gif(data: bytes) -> Facts | None:
    if not data.startswith((b"GIF87a", b"GIF89a")):
        return None
    return Facts("image/gif", *struct.unpack_from("<HH", data, 6))


def _webp(data: bytes) -> Facts | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind, body = data[12:16], 20
    if kind == b"VP8X":
        sides = struct.unpack_from("<HBHB", data, body + 4)
        return Facts("image/webp", 1 + sides[0] + (sides[1] << 16), 1 + sides[2] + (sides[3] << 16))
    if kind == b"VP8 ":
        mark, width, height = struct.unpack_from("<3sHH", data, body + 3)
        if mark != b"\x9d\x01\x2a":
            raise BadInput("an image has no WebP frame", _REMEDY)
        return Facts("image/webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        mark, packed = struct.unpack_from("<BI", data, body)
        if mark != 0x2F:
            raise BadInput("an image has no WebP frame", _REMEDY)
        return Facts("image/webp", 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
    if len(data) < 16:
        raise _Short
    raise BadInput(f"an image begins with the WebP chunk {kind!r}", _REMEDY)


def _jpeg(data: bytes) -> Facts | None:
    """The first frame's size: decoders refuse a second."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    place = 2
    while True:
        place = data.find(b"\xff", place)
        if place < 0:
            raise _Short
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker == 0 or marker in _ALONE:
            place += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return Facts("image/jpeg", width, height)
        elif marker in (0xD8, 0xD9, 0xDA) or (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES):
            raise BadInput("an image is no JPEG that can be read", _REMEDY)
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            if length < 2:
                raise BadInput("an image is no JPEG that can be read", _REMEDY)
            place += 2 + length


_READERS: tuple[Callable[[bytes], Facts | None], ...] = (_png, _jpeg, _gif, _webp)
