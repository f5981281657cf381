"""Small images in all forms that are taken, and broken ones."""

import base64
import io
import struct
import zlib
from typing import Any

from PIL import Image

from freehold.core.request import Image as Seen
from freehold.formats.images import of_base64

FORMS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


def picture(
    color: Any = "red", form: str = "PNG", size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any
) -> bytes:
    """A file of one colour."""
    written = io.BytesIO()
    Image.new(mode, size, color).save(written, form, **options)
    return written.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url_of(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64_of(data)}"


def seen(data: bytes) -> Seen:
    """As a dialect hands it in."""
    return of_base64(base64_of(data))


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that claim so many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
