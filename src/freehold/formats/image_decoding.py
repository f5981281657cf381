"""Images decoded in a confined process and written anew as plain PNG, which is all that an engine gets to see.

An image is hostile as any other input, and decoders are old and native. One process for each request: what an image
does to it ends with it, and costs that request alone.
"""

import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from freehold.core.errors import BadInput, MissingExtra, WorkerFailed
from freehold.core.request import COARSE, Image
from freehold.formats.reading import shown

SECONDS = 60.0
"""That decoding the images of a request may take."""
MOST_READ = 1 << 23
"""Pixels above which an image is made smaller. Vision models read less: most of them 1 to 4 million."""
_WORKER = Path(__file__).with_name("image_worker.py")
_FORMS = {"image/png": b"PNG ", "image/jpeg": b"JPEG", "image/webp": b"WEBP", "image/gif": b"GIF "}


def decoded(images: Sequence[Image], *, seconds: float = SECONDS) -> list[bytes]:
    """Each image as a PNG file: upright, its first frame, on white, in RGB, of at most MOST_READ pixels.

    A coarse one has at most COARSE pixels a side. Blocks. Raises BadInput for one that cannot be read or takes too
    much memory, and when all take more than `seconds`; WorkerFailed and MissingExtra when there is no decoder.
    """
    asked = b"".join(
        struct.pack(">I4sIII", len(image.data), _FORMS[image.media_type], image.width, image.height, _most(image))
        + image.data
        for image in images
    )
    command = [sys.executable, "-I", "-X", "utf8", str(_WORKER), str(seconds)]
    try:
        done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={})
    except OSError as error:
        raise WorkerFailed(f"no process decodes images: {error.strerror}", "Try again") from error
    found: list[bytes] = []
    for good, said in _replies(done.stdout):
        if not good:
            raise _unreadable(len(found), len(images), shown(said.decode("utf-8", "replace"), 200))
        found.append(said)
    if len(found) != len(images):
        if find_spec("PIL") is None:
            raise MissingExtra("images are decoded with Pillow, which is not installed", "pip install pillow")
        late = done.returncode == -signal.SIGALRM
        why = f"decoding takes longer than {seconds:g} s" if late else f"its decoder ended with {done.returncode}"
        raise _unreadable(len(found), len(images), why)
    return found


def _most(image: Image) -> int:
    """Pixels that it may have afterwards."""
    longer = max(image.width, image.height)
    coarse = COARSE * COARSE * image.width * image.height // (longer * longer)
    return max(1, min(MOST_READ, coarse)) if image.coarse else MOST_READ


def _replies(told: bytes) -> Iterator[tuple[bool, bytes]]:
    """The whole ones among the worker's answers."""
    place = 0
    while place + 5 <= len(told):
        good, length = struct.unpack_from(">BI", told, place)
        place += 5 + length
        if place > len(told):
            return
        yield bool(good), told[place - length : place]


def _unreadable(place: int, count: int, why: str) -> BadInput:
    which = f"image {place + 1} of {count}" if count > 1 else "the image"
    return BadInput(f"{which} cannot be read: {why}", "Send a whole PNG, JPEG, WebP or GIF file", param="messages")
