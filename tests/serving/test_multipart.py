import itertools
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from freehold.core.errors import BadInput
from freehold.core.settings import Settings
from freehold.serving.files import Files
from freehold.serving.multipart import form
from freehold.serving.routes import Incoming
from tests.serving.support import in_loop

BODY = (
    b'--b0\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b0\r\nContent-Disposition: form-data; name="file"; filename="a b.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n%s\r\n"
    b'--b0\r\nContent-Disposition: form-data; name="last"\r\n\r\n\r\n--b0--\r\n'
)


def incoming(pieces: list[bytes], boundary: str = "b0") -> Incoming:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            yield piece

    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    never: Any = None
    return Incoming({}, QueryParams(), headers, b"", never, chunks, "http://localhost/v1/files")


@in_loop
async def test_the_file_says_its_media_type(tmp_path: Path):
    files = Files(Settings(home=tmp_path))
    for said, told in (
        (b"Text/Plain; charset=x", "text/plain"),
        (b"text", ""),
        (b"a/" + b"b" * 200, ""),
        (b"a/\xff", ""),
    ):
        head = b'--b0\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: ' + said
        async with form(incoming([head + b"\r\n\r\nx\r\n--b0--\r\n"]), files) as found:
            assert found.media == told


async def read(files: Files, pieces: list[bytes]) -> tuple[dict[str, str], str, bytes]:
    async with form(incoming(pieces), files) as found:
        found.upload.done()
        return found.fields, found.filename, found.upload.path.read_bytes()


DATA = b"one\r\n--b\r\n--b0x\r\n\r\r\n-"


@given(st.lists(st.integers(0, len(BODY % DATA)), max_size=12))
def test_a_form_is_the_same_however_it_is_cut(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]):
    body = BODY % DATA
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[begin:end] for begin, end in itertools.pairwise(edges)]
    files = Files(Settings(home=tmp_path_factory.getbasetemp() / "forms"))

    @in_loop
    async def check() -> None:
        assert await read(files, pieces) == ({"purpose": "batch"}, "a b.jsonl", DATA)

    check()
    assert list(files.folder.iterdir()) == []


@given(st.binary(max_size=400), st.integers(0, 300))
def test_noise_is_refused_or_read_but_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
):
    body = BODY % DATA
    files = Files(Settings(home=tmp_path_factory.getbasetemp() / "forms"))

    @in_loop
    async def check() -> None:
        for pieces in ([noise], [body[:place], noise, body[place:]], [body[:place], noise]):
            with suppress(BadInput):
                await read(files, pieces)

    check()
    assert list(files.folder.iterdir()) == []


@in_loop
async def test_a_large_file_takes_little_memory(tmp_path):
    async def chunks() -> AsyncGenerator[bytes, None]:
        head, tail = (BODY % b"\0").split(b"\0")
        yield head
        for _ in range(512):
            yield b"x" * 65536
        yield tail

    files = Files(Settings(home=tmp_path))
    tracemalloc.start()
    try:
        async with form(incoming([])._replace(chunks=chunks), files) as found:
            assert found.upload.size == 32 << 20
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
