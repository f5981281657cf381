import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import Request

from freehold.core.errors import BadInput, Interrupted, Timeout, TooLarge, UnsupportedMedia
from freehold.serving.http import EventStream, departure, read_body, require_json, while_connected
from tests.serving.support import in_loop


def _request(*messages: dict, headers: dict[str, str] | None = None) -> Request:
    waiting = list(messages)

    async def receive() -> dict:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    raw = [(key.encode(), value.encode()) for key, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def _piece(body: bytes, more: bool = True) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


@in_loop
async def test_a_body_in_pieces_is_read_whole():
    assert await read_body(_request(_piece(b"ab"), _piece(b"cd", more=False)), 4) == b"abcd"


@in_loop
async def test_a_body_over_the_cap_is_refused_as_soon_as_it_is_over():
    with pytest.raises(TooLarge):
        await read_body(_request(_piece(b"abc"), _piece(b"de")), 4)


@pytest.mark.parametrize("length", ["5", "99999999999999999999999999"])
@in_loop
async def test_a_declared_length_over_the_cap_is_refused_unread(length: str):
    with pytest.raises(TooLarge):
        await read_body(_request(headers={"content-length": length}), 4)


@in_loop
async def test_a_slow_body_has_a_deadline():
    with pytest.raises(Timeout):
        await read_body(_request(_piece(b"a")), 4, seconds=0.05)


@in_loop
async def test_a_client_that_leaves_within_its_body():
    with pytest.raises(BadInput):
        await read_body(_request(_piece(b"a"), {"type": "http.disconnect"}), 4)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "x"])
@in_loop
async def test_compressed_bodies_are_refused(encoding: str):
    with pytest.raises(UnsupportedMedia):
        await read_body(_request(headers={"content-encoding": encoding}), 4)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_says_so(kind: str):
    require_json(_request(headers={"content-type": kind}))


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/jsonp"}])
def test_other_bodies_are_refused(headers: dict[str, str]):
    with pytest.raises(UnsupportedMedia):
        require_json(_request(headers=headers))


async def _never() -> None:
    await asyncio.Event().wait()


@in_loop
async def test_work_is_done_while_the_client_stays():
    async def work() -> int:
        return 5

    assert await while_connected(_never, work()) == 5


@in_loop
async def test_errors_of_the_work_come_through():
    async def work() -> int:
        raise TooLarge("x")

    with pytest.raises(TooLarge):
        await while_connected(_never, work())


@in_loop
async def test_work_is_cancelled_when_the_client_leaves():
    cancelled = []

    async def work() -> None:
        try:
            await _never()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    request = _request(_piece(b"", more=False), {"type": "http.disconnect"})
    with pytest.raises(Interrupted):
        await while_connected(departure(request.receive), work())
    assert cancelled == [True]


class Origin:
    """An endless source that knows whether it was closed."""

    def __init__(self, pieces: int = 1_000_000) -> None:
        self.closed = False
        self.pieces = pieces

    async def events(self) -> AsyncGenerator:
        try:
            for _ in range(self.pieces):
                await asyncio.sleep(0)
                yield b"data: x\n\n"
        finally:
            self.closed = True


async def _stream(origin: Origin, receive, send, stall: float = 5.0) -> None:
    events = origin.events()
    await anext(events)
    await EventStream(events, events, stall)({"type": "http"}, receive, send)
    assert origin.closed


@in_loop
async def test_a_stream_is_sent_to_its_end():
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    await _stream(Origin(3), _never, send)
    assert sent[0]["status"] == 200
    assert (b"content-type", b"text/event-stream; charset=utf-8") in sent[0]["headers"]
    assert [message["body"] for message in sent[1:]] == [b"data: x\n\n"] * 2 + [b""]
    assert sent[-1]["more_body"] is False


@in_loop
async def test_what_comes_without_waiting_is_sent_in_one_piece():
    sent = []

    async def source() -> AsyncGenerator:
        for pieces in ((b"a", b"", b"b"), (b"",), (b"c",), (b"d", b"e")):
            for piece in pieces:
                yield piece
            await asyncio.sleep(0.01)

    async def send(message: dict) -> None:
        sent.append(message)

    await EventStream(source())({"type": "http"}, _never, send)
    assert [message["body"] for message in sent[1:]] == [b"ab", b"c", b"de", b""]


@in_loop
async def test_a_slow_client_keeps_no_more_than_a_piece_in_memory():
    made, most = [], []

    async def source() -> AsyncGenerator:
        for number in range(100):
            made.append(number)
            yield bytes(100_000)

    async def send(message: dict) -> None:
        most.append(100_000 * len(made) - sum(taken))
        taken.append(len(message.get("body", b"")))
        await asyncio.sleep(0.001)

    taken: list[int] = []
    await EventStream(source())({"type": "http"}, _never, send)
    assert sum(taken) == 10_000_000
    assert max(most) <= 800_000


@in_loop
async def test_a_stream_ends_when_the_client_leaves():
    async def receive() -> dict:
        await asyncio.sleep(0.02)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        await asyncio.sleep(0)

    await _stream(Origin(), receive, send)


@in_loop
async def test_a_client_that_left_already_still_closes_the_origin():
    async def receive() -> dict:
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        await _never()

    await _stream(Origin(), receive, send)


@in_loop
async def test_a_client_that_reads_nothing_is_given_up():
    async def send(message: dict) -> None:
        if message["type"] == "http.response.body":
            await _never()

    await _stream(Origin(), _never, send, stall=0.05)


@in_loop
async def test_a_bug_in_the_source_is_not_hidden():
    async def broken() -> AsyncGenerator:
        yield b"1"
        raise ZeroDivisionError

    async def send(message: dict) -> None:
        pass

    with pytest.raises(ZeroDivisionError):
        await EventStream(broken(), Origin().events())({"type": "http"}, _never, send)
