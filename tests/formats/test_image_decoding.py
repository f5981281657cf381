"""Images decoded in a confined process: as people see them, or refused, whatever they do to it."""

import io
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from freehold.core.errors import BadInput
from freehold.core.request import COARSE
from freehold.core.request import Image as Seen
from freehold.formats.image_decoding import MOST_READ, decoded
from freehold.formats.image_worker import MEMORY
from tests.pictures import FORMS, picture, seen


def look(data: bytes) -> Image.Image:
    """What the model gets to see."""
    (file,) = decoded([seen(data)])
    image = Image.open(io.BytesIO(file))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return image


def near(color: object, expected: tuple[int, int, int], most: int = 3) -> bool:
    assert isinstance(color, tuple)
    return all(abs(one - other) <= most for one, other in zip(color, expected, strict=True))


@pytest.mark.parametrize(("system", "limited"), [("linux", True), ("darwin", False)])
def test_the_process_is_confined_as_far_as_its_system_can(system: str, limited: bool) -> None:
    """macOS refuses a limit on addresses that is below what it shares out to every program."""
    code = (
        f"import sys, resource; sys.platform = {system!r}; from freehold.formats import image_worker;"
        "image_worker.confine();"
        "print(*(resource.getrlimit(each)[1] for each in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(MEMORY) if limited else "-1", "0"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str) -> None:
    image = look(picture((200, 100, 50), form))
    assert image.size == (40, 30)
    assert near(image.getpixel((5, 5)), (200, 100, 50))


@pytest.mark.parametrize(
    ("form", "mode", "color", "expected"),
    [
        ("PNG", "RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("PNG", "RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("WEBP", "RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("PNG", "LA", (0, 0), (255, 255, 255)),
        ("PNG", "L", 77, (77, 77, 77)),
        ("PNG", "1", 1, (255, 255, 255)),
        ("PNG", "I;16", 40_000, (155, 155, 155)),
        ("JPEG", "L", 77, (77, 77, 77)),
        ("JPEG", "CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_what_is_transparent_is_white_and_every_mode_is_rgb(form: str, mode: str, color: object, expected) -> None:
    assert near(look(picture(color, form, mode=mode)).getpixel((3, 3)), expected)


def test_palettes_with_a_transparent_colour() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    written = io.BytesIO()
    image.save(written, "PNG", transparency=1)
    assert look(written.getvalue()).getpixel((0, 0)) == (255, 255, 255)


def test_a_photo_is_upright_and_of_an_animation_the_first_frame_is_taken() -> None:
    photo = Image.new("RGB", (40, 20), "red")
    photo.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # it was held so that its left is its top
    written = io.BytesIO()
    photo.save(written, "JPEG", exif=exif, quality=95)
    upright = look(written.getvalue())
    assert upright.size == (20, 40)
    assert near(upright.getpixel((10, 5)), (0, 0, 255), 12)
    for form in ("GIF", "WEBP", "PNG"):
        moving = io.BytesIO()
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        frames[0].save(moving, form, save_all=True, append_images=frames[1:], duration=10)
        assert near(look(moving.getvalue()).getpixel((3, 3)), (255, 0, 0), 4)


def test_large_ones_are_made_smaller_and_coarse_ones_small() -> None:
    data = picture("red", size=(6000, 3000))
    large = look(data)
    assert large.width * large.height <= MOST_READ < large.width * large.height * 1.01
    assert abs(large.width - 2 * large.height) <= 1
    image = seen(data)
    (coarse,) = decoded([Seen(image.data, image.media_type, image.width, image.height, coarse=True)])
    assert Image.open(io.BytesIO(coarse)).size == (COARSE, COARSE // 2)
    small = seen(picture("red"))
    (same,) = decoded([Seen(small.data, small.media_type, small.width, small.height, coarse=True)])
    assert Image.open(io.BytesIO(same)).size == (40, 30)


def test_several_at_once_in_their_order() -> None:
    colors = ["red", "lime", "blue"]
    files = decoded([seen(picture(color)) for color in colors])
    found = [Image.open(io.BytesIO(file)).getpixel((0, 0)) for file in files]
    assert found == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert decoded([seen(picture("red"))]) == files[:1], "the same image is the same file"
    with pytest.raises(BadInput, match="image 2 of 3 cannot be read"):
        decoded([seen(picture("red")), seen(picture("red")[:50]), seen(picture("red"))])


def other_size(data: bytes) -> Seen:
    """The image with a size that is not its own."""
    image = seen(data)
    return Seen(image.data, image.media_type, image.width + 1, image.height)


@pytest.mark.parametrize("form", FORMS)
def test_half_of_a_file_is_no_image(form: str) -> None:
    data = picture("red", form, size=(200, 200))
    with pytest.raises(BadInput, match="cannot be read"):
        decoded([seen(data[: len(data) * 3 // 5])])
    with pytest.raises(BadInput, match="not 201 x 200 as it says"):
        decoded([other_size(data)])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def bombs() -> dict[str, bytes]:
    """Small files that would take much to decode."""
    head = b"\x89PNG\r\n\x1a\n"
    tiny = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    zeros = zlib.compress(bytes(200 << 20), 9)
    texts = b"".join(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000))) for _ in range(200))
    good = chunk(b"IDAT", zlib.compress(bytes(4)))
    end = chunk(b"IEND", b"")
    return {
        "pixels": head + tiny + chunk(b"IDAT", zeros) + end,
        "texts": head + tiny + texts + good + end,
        "profile": head + tiny + chunk(b"iCCP", b"p\0\0" + zeros) + good + end,
    }


@pytest.mark.parametrize("kind", bombs())
def test_bombs_are_defused_or_refused(kind: str) -> None:
    data = bombs()[kind]
    found: list[bytes] = []
    with suppress(BadInput):
        found = decoded([seen(data)])
    assert all(Image.open(io.BytesIO(file)).size == (1, 1) for file in found)


def test_one_that_takes_too_long_is_ended() -> None:
    data = picture("red", "JPEG", size=(3000, 3000), progressive=True)
    begin = data.rindex(b"\xff\xda")
    scan = data[begin:-2]
    image = seen(data[:begin] + scan * 20_000 + data[-2:])
    with pytest.raises(BadInput, match="takes longer than"):
        decoded([image], seconds=0.5)


@settings(max_examples=15)
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_damaged_files_never_do_harm(form: str, data: st.DataObject) -> None:
    file = bytearray(picture("red", form, size=(64, 48)))
    for place in data.draw(st.lists(st.integers(len(file) // 4, len(file) - 1), max_size=8)):
        file[place] = data.draw(st.integers(0, 255))
    found: list[bytes] = []
    with suppress(BadInput):
        found = decoded([seen(bytes(file))])
    assert all(Image.open(io.BytesIO(file)).mode == "RGB" for file in found)
