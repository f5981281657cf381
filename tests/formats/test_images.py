"""Headers of images: what is taken, and that nothing hostile gets further."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput, NotFound, TooLarge
from freehold.core.request import MAX_IMAGE
from freehold.formats import images
from tests.pictures import FORMS, base64_of, huge_png, picture, url_of

KINDS = [
    *((form, {}) for form in FORMS),
    ("PNG", {"mode": "RGBA", "color": (1, 2, 3, 4)}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"mode": "L", "color": 7}),
    ("JPEG", {"mode": "CMYK", "color": (1, 2, 3, 4)}),
    ("JPEG", {"comment": b"\xff\xc0 a frame that is none \xff\xda" * 40, "exif": b"Exif\0\0II*\0" + bytes(60)}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"mode": "RGBA", "color": (1, 2, 3, 4)}),
    ("WEBP", {"mode": "RGBA", "color": (1, 2, 3, 4), "lossless": True}),
    ("GIF", {"mode": "P", "color": 3}),
]


@pytest.mark.parametrize(("form", "options"), KINDS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (40, 30), (300, 2), (3, 599)])
def test_kind_and_size_are_read(form: str, options: dict, size: tuple[int, int]) -> None:
    data = picture(**{"color": "red", **options}, form=form, size=size)
    assert images.read(data) == (FORMS[form], *size)


@pytest.mark.parametrize(("form", "options"), KINDS, ids=str)
def test_a_file_cut_off_anywhere_is_refused_or_read_alike(form: str, options: dict) -> None:
    data = picture(**{"color": "red", **options}, form=form)
    whole, refused = images.read(data), 0
    for length in range(len(data)):
        try:
            assert images.read(data[:length]) == whole
        except BadInput:
            refused += 1
    assert refused >= 10


@given(st.binary(max_size=200), st.sampled_from([picture("red", form) for form in FORMS]), st.integers(0, 60))
def test_any_bytes_are_read_or_refused(noise: bytes, data: bytes, place: int) -> None:
    for attempt in (noise, data[:place] + noise, data[:place] + noise + data[place + len(noise) :]):
        try:
            found = images.read(attempt)
        except BadInput:
            continue
        assert 0 < found.width * found.height <= images.MAX_PIXELS


@pytest.mark.parametrize(
    ("width", "height", "kind"),
    [
        (50_000, 1_000, None),
        (7_071, 7_071, None),
        (7_072, 7_072, TooLarge),
        (65_537, 400, TooLarge),
        ((1 << 31) - 1, (1 << 31) - 1, TooLarge),
        (1 << 31, 1, BadInput),
        (201, 1, BadInput),
        (1, 201, BadInput),
        (0, 5, BadInput),
        (5, 0, BadInput),
    ],
)
def test_sizes_are_bounded(width: int, height: int, kind: type[BadInput] | None) -> None:
    data = huge_png(width, height)
    if kind is None:
        assert images.read(data)[1:] == (width, height)
        return
    with pytest.raises(kind):
        images.read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a" + struct.pack("<HH", 65535, 65535),
        b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0" + bytes(4) + b"\xff" * 6,
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff",
        b"\xff\xd8\xff\xe0\0\x02\xff\xff\xff\xc2\0\x11\x08\xff\xff\xff\xff",
    ],
    ids=["GIF", "WebP", "JPEG", "JPEG behind fill bytes"],
)
def test_bombs_of_every_kind_are_refused_by_their_headers(data: bytes) -> None:
    with pytest.raises(TooLarge, match="too large"):
        images.read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n" + bytes(30),
        b"BM" + bytes(100),
        b"RIFF\0\0\0\0WAVEfmt " + bytes(40),
        b"RIFF\0\0\0\0WEBPALPH" + bytes(40),
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(40),
        b"RIFF\0\0\0\0WEBPVP8L" + bytes(40),
        b"\xff\xd8\xff\xd9" + bytes(10),
        b"\xff\xd8\xff\xda\0\x02\xff\xc0\0\x11\x08\0\x01\0\x01",
        b"\xff\xd8\xff\xc3\0\x11\x08\0\x01\0\x01",
        b"\xff\xd8\xff\xc9\0\x11\x08\0\x01\0\x01",
        b"\xff\xd8\xff\xe0\0\0" + bytes(20),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        images.read(data)
    assert caught.value.remedy


def test_base64_as_clients_write_it() -> None:
    data = picture()
    text = base64_of(data)
    lines = "\n".join(text[place : place + 76] for place in range(0, len(text), 76))
    for written in (text, lines, text.rstrip("="), f" {text}\r\n"):
        assert images.of_base64(written).data == data
    for stated in ("", "image/png", "IMAGE/PNG", "image/x-png"):
        assert images.of_base64(text, stated).media_type == "image/png"
    assert images.of_base64(base64_of(picture(form="JPEG")), "image/jpg").media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("text", "stated", "kind", "said"),
    [
        ("", "", BadInput, "empty"),
        ("*", "", BadInput, "not in base64"),
        ("päng", "", BadInput, "not in base64"),
        ("AAAAA", "", BadInput, "not in base64"),
        (base64_of(b"hello"), "", BadInput, "no PNG"),
        (base64_of(picture()), "image/jpeg", BadInput, "is called image/jpeg and is image/png"),
        (base64_of(picture()), "image/svg+xml", BadInput, "svg"),
        (base64_of(picture()), "text/html", BadInput, "text/html"),
        ("A" * (images.MAX_BASE64 + 1), "", TooLarge, "too large"),
        (base64_of(bytes(MAX_IMAGE + 1)), "", TooLarge, f"{MAX_IMAGE + 1} bytes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_base64_that_is_refused(text: str, stated: str, kind: type[BadInput], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        images.of_base64(text, stated, param="images")
    assert caught.value.param == "images"


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:image/jpeg;base64,", "data:image/webp;charset=utf-8;base64,"]
)
def test_data_urls(head: str) -> None:
    assert images.of_url(head + base64_of(picture())).media_type == "image/png"


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("http://127.0.0.1/x.png", BadInput, "not fetched from http:"),
        ("https://example.com/x.png", BadInput, "not fetched from https:"),
        ("file:///etc/passwd", BadInput, "not fetched from file:"),
        ("ftp://x/y.png", BadInput, "not fetched"),
        ("//host/x.png", BadInput, "not fetched"),
        ("x.png", BadInput, "not fetched"),
        ("", BadInput, "not fetched"),
        (base64_of(picture()), BadInput, "not fetched"),
        ("data:image/png,AAAA", BadInput, "not in base64"),
        ("data:image/png;base64", BadInput, "not in base64"),
        (url_of(picture(), "text/plain"), BadInput, "text/plain"),
        (url_of(picture(), ""), BadInput, "''"),
        (url_of(picture(), "image/svg+xml"), BadInput, "svg"),
        (url_of(b"GIF89a"), BadInput, "ends inside its header"),
    ],
)
def test_urls_that_are_refused(url: str, kind: type[BadInput], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        images.of_url(url, param="messages")
    assert caught.value.param == "messages"
    assert caught.value.remedy


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(picture())
    found = images.of_file(path)
    assert (found.data, found.width, found.height) == (path.read_bytes(), 40, 30)
    assert images.of_url(images.url_of(found)) == found
    path.write_bytes(b"hello")
    with pytest.raises(BadInput, match=r"x\.png: an image is no PNG"):
        images.of_file(path)
    with pytest.raises(NotFound):
        images.of_file(tmp_path / "gone.png")
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE + 1)
    with pytest.raises(TooLarge, match=r"x\.png"):
        images.of_file(path)
