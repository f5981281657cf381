"""Decodes images in a process that can do nothing else: no environment, little memory, no files, little time.

Run as a script by formats.image_decoding; it imports nothing of ours. Its argument is the seconds that it may
take. Reads images, each a 4-byte big-endian length, the format's name in four bytes; in four bytes each the width and
height that its header says, and the pixels that it may have afterwards; and the file. Writes for each a byte, 0 or 1,
and a 4-byte length with what follows: a PNG file as vision models read them, or why there is none.
"""

import io
import resource
import signal
import struct
import sys
import warnings

from PIL import Image, ImageOps

MEMORY = 1 << 30
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, struct.error, EOFError)
"""What Pillow's decoders raise of files that are broken."""


def decoded(data: bytes, form: str, width: int, height: int, most: int) -> bytes:
    """The image as PNG: upright, its first frame, on white, in RGB, of at most `most` pixels."""
    opened = Image.open(io.BytesIO(data), formats=[form])
    if opened.size != (width, height):
        raise ValueError(f"it has {opened.size[0]} x {opened.size[1]} pixels, not {width} x {height} as it says")
    opened.load()
    ImageOps.exif_transpose(opened, in_place=True)
    image = plain(opened)
    if width * height > most:
        scale = (most / (width * height)) ** 0.5
        smaller = tuple(max(1, int(side * scale)) for side in image.size)
        image = image.resize((smaller[0], smaller[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)
    written = io.BytesIO()
    image.save(written, "PNG", compress_level=1)
    return written.getvalue()


def plain(image: Image.Image) -> Image.Image:
    """In RGB, what is transparent on white."""
    if image.mode.startswith(("I", "F")):  # 16 bits of grey, which a plain conversion would cut off at 255
        image = image.point(lambda grey: grey * (1 / 257)).convert("L")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def reply(head: bytes, data: bytes) -> bytes:
    """The answer to one image."""
    form, width, height, most = struct.unpack(">4sIII", head)
    try:
        said, kind = decoded(data, form.decode().strip(), width, height, most), 1
    except MemoryError:
        said, kind = b"it needs too much memory", 0
    except _BROKEN as error:
        said, kind = (str(error) or type(error).__name__)[:200].encode("utf-8", "replace"), 0
    return struct.pack(">BI", kind, len(said)) + said


def confine() -> None:
    """Give up what decoding does not need. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform != "darwin":  # it counts what all programs share there, and would be refused
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    Image.MAX_IMAGE_PIXELS = None  # the header's size was checked, and that it is the image's is checked here
    warnings.simplefilter("ignore")  # of odd metadata; nobody reads them


if __name__ == "__main__":
    confine()
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
    while len(head := sys.stdin.buffer.read(20)) == 20:
        file = sys.stdin.buffer.read(int.from_bytes(head[:4], "big"))
        sys.stdout.buffer.write(reply(head[4:], file))
        sys.stdout.buffer.flush()
