"""HTTP over a Unix socket: answers whole and in pieces, however they are cut, and every way in which they break."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest

from freehold.core.system import on_linux
from freehold.engines import channel as channels
from freehold.engines.channel import FRAME_SECONDS, Broken, Channel
from freehold.engines.ends import End
from tests.serving.support import in_loop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
WHOLE = {
    "of a length": HEAD + b"content-length: 5\r\n\r\nhello",
    "to the end": HEAD + b"\r\nhello",
    "in chunks": CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "after a word before": b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n"
    + HEAD
    + b"content-length: 5\r\n\r\nhello",
    "with more behind": HEAD + b"content-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
}
BROKEN = {
    "nothing": b"",
    "half a head": HEAD,
    "no HTTP": b"hello\r\n\r\n",
    "a bad status": b"HTTP/1.1 abc\r\n\r\n",
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "less than promised": HEAD + b"content-length: 50\r\n\r\nhello",
    "half a chunk": CHUNKED + b"5\r\nhe",
    "a chunk of no length": CHUNKED + b"x\r\nhe\r\n",
    "no last chunk": CHUNKED + b"2\r\nhe\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000,
}


class Served:
    """A server that answers every request with the same pieces, and remembers what it was asked."""

    def __init__(self, pieces: Sequence[bytes], hold: asyncio.Event | None = None) -> None:
        self.pieces = pieces
        self.hold = hold
        self.asked: list[bytes] = []
        self.left = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.asked.append(head + await reader.readexactly(length))
        for piece in self.pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        if self.hold is not None:
            with suppress(ConnectionResetError):  # it left without having read all
                assert await reader.read() == b""
            self.left += 1
            self.hold.set()
        writer.close()


@asynccontextmanager
async def served(
    folder: Path, *pieces: bytes, hold: asyncio.Event | None = None
) -> AsyncIterator[tuple[Channel, Served]]:
    path = folder / "w.sock"
    answering = Served(pieces, hold)
    async with await asyncio.start_unix_server(answering, str(path)):
        yield Channel(path), answering


@pytest.mark.parametrize("name", WHOLE)
@in_loop
async def test_an_answer_is_the_same_however_it_is_cut(tmp_path: Path, name: str):
    data = WHOLE[name]
    cuts: list[Callable[[], list[bytes]]] = [
        lambda: [data],
        lambda: [data[i : i + 1] for i in range(len(data))],
        lambda: [data[:20], data[20:21], data[21:]],
    ]
    for cut in cuts:
        async with served(tmp_path, *cut()) as (channel, _):
            reply = await channel.ask("GET", "/x")
        assert (reply.status, reply.content) == (200, b"hello")
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", BROKEN)
@in_loop
async def test_what_breaks_is_broken_and_nothing_else(tmp_path: Path, name: str):
    async with served(tmp_path, BROKEN[name]) as (channel, _):
        with pytest.raises(Broken):
            await channel.ask("POST", "/x", b"{}")


@in_loop
async def test_what_is_asked_arrives(tmp_path: Path):
    body = bytes(range(256)) * 5000
    async with served(tmp_path, WHOLE["of a length"]) as (channel, answering):
        await channel.ask("POST", "/v1/chat?x=1", body)
        await channel.ask("GET", "/health")
    posted, got = answering.asked
    assert posted.startswith(b"POST /v1/chat?x=1 HTTP/1.1\r\n")
    assert posted.endswith(b"\r\n\r\n" + body)
    assert b"connection: close" in posted.lower()
    assert got.startswith(b"GET /health HTTP/1.1\r\n")
    assert got.endswith(b"\r\n\r\n")


@in_loop
async def test_pieces_come_as_they_are_sent(tmp_path: Path):
    async with served(tmp_path, CHUNKED, b"2\r\nhe\r\n", b"3\r\nllo\r\n", b"0\r\n\r\n") as (channel, _):
        async with channel.open("GET", "/x") as answer:
            assert answer.status == 200
            assert [piece async for piece in answer.pieces()] == [b"he", b"llo"]
            assert await answer.content() == b""


@in_loop
async def test_an_error_is_an_answer_like_others(tmp_path: Path):
    async with served(tmp_path, b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\ncontent-length: 2\r\n\r\n{}") as (channel, _):
        reply = await channel.ask("GET", "/x")
    assert (reply.status, reply.content, reply.headers["retry-after"]) == (503, b"{}", "5")


@in_loop
async def test_whoever_leaves_is_seen_to_leave(tmp_path: Path):
    hold = asyncio.Event()
    async with served(tmp_path, CHUNKED + b"2\r\nhe\r\n", hold=hold) as (channel, answering):
        async with channel.open("POST", "/x", b"{}") as answer, aclosing(answer.pieces()) as pieces:
            assert await anext(pieces) == b"he"
        async with asyncio.timeout(5):
            await hold.wait()
    assert answering.left == 1


@pytest.mark.parametrize("there", [None, "file"])
@in_loop
async def test_nobody_there(tmp_path: Path, there: str | None):
    path = tmp_path / "w.sock"
    if there:
        path.touch()
    with pytest.raises(Broken):
        await Channel(path).ask("GET", "/health")


@in_loop
async def test_many_at_once_do_not_mix(tmp_path: Path):
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % length + body)
        writer.close()

    path = tmp_path / "w.sock"
    async with await asyncio.start_unix_server(echo, str(path)):
        channel = Channel(path)
        sent = [str(number).encode() * (number + 1) for number in range(40)]
        replies = await asyncio.gather(*(channel.ask("POST", "/x", body) for body in sent))
    assert [reply.content for reply in replies] == sent


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each read of a connection gave, from now on."""
    sizes: list[int] = []
    loop = asyncio.get_running_loop()
    read = loop.sock_recv

    async def counting(connected: socket.socket, most: int) -> bytes:
        piece = await read(connected, most)
        sizes.append(len(piece))
        return piece

    monkeypatch.setattr(loop, "sock_recv", counting)
    return sizes


def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long nothing was to be read each time, from now on."""
    found: list[float] = []
    within = End.within

    async def noted(end: End, seconds: float) -> None:
        found.append(seconds)
        await within(end, seconds)

    monkeypatch.setattr(End, "within", noted)
    return found


@in_loop
async def test_tokens_that_come_fast_are_read_together(tmp_path: Path):
    words = [b"%05d" % number for number in range(1000)]
    chunks = (b"5\r\n%b\r\n" % word for word in words)
    async with served(tmp_path, CHUNKED, *chunks, b"0\r\n\r\n") as (channel, _):
        with pytest.MonkeyPatch.context() as monkeypatch:
            sizes, paused = counted(monkeypatch), pauses(monkeypatch)
            async with channel.open("GET", "/x") as answer:
                assert b"".join([piece async for piece in answer.pieces()]) == b"".join(words)
    assert len(sizes) < 200
    assert paused


@in_loop
async def test_tokens_that_come_slowly_are_read_at_once(tmp_path: Path):
    """No read begins a while after its token came, and none wakes for nothing."""

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        for _ in range(20):
            await asyncio.sleep(2 * FRAME_SECONDS)
            writer.write(b"1\r\nx\r\n")
        writer.write(b"0\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(slowly, str(tmp_path / "w.sock")):
        with pytest.MonkeyPatch.context() as monkeypatch:
            paused = pauses(monkeypatch)
            assert (await Channel(tmp_path / "w.sock").ask("GET", "/x")).content == b"x" * 20
    assert len(paused) < 10


@pytest.mark.skipif(not on_linux(), reason="other systems do not tell of the end alone")
@in_loop
async def test_the_end_is_seen_at_once(tmp_path: Path):
    """However long it is until the next read of what comes before it."""
    ended = asyncio.Event()

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        for _ in range(20):
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.001)
        await ended.wait()
        writer.write(b"1\r\ny\r\n0\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(answering, str(tmp_path / "w.sock")):
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(channels, "FRAME_SECONDS", 600.0)
            paused = pauses(monkeypatch)
            channel = Channel(tmp_path / "w.sock")
            asking = [asyncio.create_task(channel.ask("GET", "/x")) for _ in range(3)]
            async with asyncio.timeout(30):
                while len(paused) < 3:
                    await asyncio.sleep(0.01)
                ended.set()
                replies = await asyncio.gather(*asking)
    assert [reply.content for reply in replies] == [b"x" * 20 + b"y"] * 3


@in_loop
async def test_a_large_answer_is_read_as_fast_as_it_comes(tmp_path: Path):
    body = bytes(1 << 23)
    head = HEAD + b"content-length: %d\r\n\r\n" % len(body)
    async with served(tmp_path, head, body) as (channel, _):
        with pytest.MonkeyPatch.context() as monkeypatch:
            sizes, paused = counted(monkeypatch), pauses(monkeypatch)
            assert (await channel.ask("GET", "/x")).content == body
    assert len(sizes) > 100
    assert len(paused) < 5


@in_loop
async def test_who_leaves_between_two_reads_is_seen_to_leave(tmp_path: Path):
    hold = asyncio.Event()
    chunks = [b"1\r\n%d\r\n" % (number % 10) for number in range(100)]
    async with served(tmp_path, CHUNKED, *chunks, hold=hold) as (channel, answering):

        async def listen() -> None:
            async with channel.open("GET", "/x") as answer:
                await answer.content()

        for seconds in (0.005, 0.02):
            hold.clear()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await listen()
            async with asyncio.timeout(5):
                await hold.wait()
    assert answering.left == 2
