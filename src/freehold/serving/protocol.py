"""uvicorn's HTTP/1.1 protocol with the deadline that it lacks: a request's head must arrive in time.

Bodies have theirs in `http.read_body`, answers in `http.EventStream`, idle connections in uvicorn's keep-alive.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
_HELD = 1 << 16
"""Bytes written at once whatever comes after them."""


class Cork:
    """A transport that sends what is written in one turn of the event loop as one: tokens come in bursts."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send this, with what else is written until the event loop goes on."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _HELD:
            self._flush()

    def close(self) -> None:
        """Close when all of it is sent."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._pieces:
            pieces, self._pieces, self._size = self._pieces, [], 0
            self._transport.write(b"".join(pieces))


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose next request has not shown its whole head after HEAD_SECONDS."""

    head_seconds = HEAD_SECONDS

    def connection_made(self, transport: Any) -> None:
        """A client connected; its first head is awaited."""
        super().connection_made(Cork(transport, self.loop))  # type: ignore[arg-type]
        self._head_timer: asyncio.TimerHandle | None = None
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Some bytes came: perhaps the rest of a head, perhaps the start of one."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
