import asyncio
import socket
import time

import pytest

from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.serving.protocol import Cork, DeadlineProtocol
from freehold.store import Store
from tests.serving.support import FakeEngine, in_loop, live


def _drip(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b"a")
        time.sleep(0.02)


class Hasty(DeadlineProtocol):
    head_seconds = 0.3


@pytest.fixture
def address(settings: Settings, store: Store):
    app = create_app(settings, store, engine=FakeEngine())
    with live(app, http=Hasty, timeout_keep_alive=5, h11_max_incomplete_event_size=32 << 10) as url:
        yield "127.0.0.1", int(url.rpartition(":")[2])


def _until_closed(connection: socket.socket, seconds: float = 5.0) -> bytes:
    connection.settimeout(seconds)
    received = b""
    while piece := connection.recv(4096):
        received += piece
    return received


@pytest.mark.parametrize(
    "sent", [b"", b"GET /health HTTP/1.1\r\nHost: 127", b"P", b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 9]
)
def test_a_head_that_does_not_come_closes_the_connection(address, sent: bytes):
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        _until_closed(connection)
        assert 0.2 < time.monotonic() - began < 2


def test_a_dripping_head_is_no_excuse(address):
    with socket.create_connection(address) as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            _drip(connection)
        assert time.monotonic() - began < 2


def test_a_second_head_on_the_same_connection_has_the_deadline_too(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /hea")
        began = time.monotonic()
        _until_closed(connection)
        assert time.monotonic() - began < 2


def test_a_slow_body_is_not_cut_by_the_heads_deadline(address):
    with socket.create_connection(address) as connection:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 2\r\n\r\n{")
        time.sleep(0.5)
        connection.sendall(b"}")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 33_000 + b"\r\n\r\n", b"413"),
        (b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"400"),
        (b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"4"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n", b"400"),
        (b"GET http://evil.com/health HTTP/1.1\r\nHost: evil.com\r\n\r\n", b"403"),
        (b"GET http://evil.com/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"4"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    ],
)
def test_broken_and_ambiguous_heads_are_refused(address, sent: bytes, status: bytes):
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        connection.settimeout(5)
        assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)


def test_others_are_served_while_many_say_nothing(address):
    silent = [socket.create_connection(address) for _ in range(50)]
    try:
        with socket.create_connection(address) as connection:
            began = time.monotonic()
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert _until_closed(connection).startswith(b"HTTP/1.1 200")
            assert time.monotonic() - began < 0.5
        assert {_until_closed(one) for one in silent} == {b""}
    finally:
        for one in silent:
            one.close()


class Recorded(asyncio.Transport):
    """A transport that keeps what it is told to send."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.sent.append(b"closed")


@in_loop
async def test_what_is_written_in_one_turn_is_sent_as_one():
    recorded = Recorded()
    cork = Cork(recorded, asyncio.get_running_loop())
    assert cork.get_extra_info("peername") == ("127.0.0.1", 1)
    for piece in (b"a", b"b", b"c"):
        cork.write(piece)
    assert recorded.sent == []
    await asyncio.sleep(0)
    assert recorded.sent == [b"abc"]
    cork.write(b"d")
    await asyncio.sleep(0)
    assert recorded.sent == [b"abc", b"d"]


@in_loop
async def test_nothing_written_is_kept_back_for_long_or_lost():
    recorded = Recorded()
    cork = Cork(recorded, asyncio.get_running_loop())
    large = bytes(1 << 16)
    cork.write(b"a")
    cork.write(large)
    assert recorded.sent == [b"a" + large]
    cork.write(b"b")
    cork.close()
    assert recorded.sent[1:] == [b"b", b"closed"]
    await asyncio.sleep(0)
    assert len(recorded.sent) == 3
