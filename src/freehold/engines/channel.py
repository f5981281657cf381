"""HTTP/1.1 to a worker over its Unix socket, a connection for each request.

Every token of every stream comes through here. A general client costs more a token than the rest of the server does,
and what it takes of the processor is missing to the worker beside it.
"""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import httptools

from freehold.engines.ends import End, Ends

CONNECT_SECONDS = 5.0
FRAME_SECONDS = 0.05
"""Between two reads of a fast worker's tokens, at which text still flows: waking costs more than another token."""
_PROMPT_READS = 8
"""Reads that wait for nothing, since the first token is among them."""
_PIECE = 1 << 16
_MAX_HEAD = 1 << 16
_TARGET = re.compile(r"[!-~]+")
_TOKENS = 1 << 12
"""Bytes of a read that holds tokens; what is read in larger ones is one large answer."""


class Broken(Exception):
    """There is no worker, it went away before its answer was whole, or what it says is no HTTP."""


class Reply(NamedTuple):
    """An answer in one piece."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    """By their names in lower case."""


class _Message:
    """What of an answer was read: the parser's side of it. What comes behind the answer is nobody's."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.begun = False
        """Whether the head is here, and not one of those that come before an answer."""
        self.over = False
        self.pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._read = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head."""
        if not self.begun:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The end of the head."""
        if not self.begun:
            self.status = self._parser.get_status_code()
            self.begun = self.status >= HTTPStatus.OK
            if not self.begun:
                self.headers.clear()

    def on_body(self, piece: bytes) -> None:
        """A piece of the content."""
        if not self.over:
            self.pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end of the answer."""
        self.over = self.begun

    def feed(self, data: bytes) -> None:
        """More of the answer; none at all ends the connection. Raises Broken."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise Broken("the worker changed the protocol") from error
        except httptools.HttpParserError as error:
            if not self.over:
                raise Broken(str(error)) from error
        self._read += len(data)
        if not self.begun and self._read > _MAX_HEAD:
            raise Broken("the head has no end")
        if not data and not self.over:
            if not self.begun or self._whole_length:
                raise Broken("the connection ended before the answer")
            self.over = True

    @property
    def _whole_length(self) -> bool:
        return "content-length" in self.headers or "transfer-encoding" in self.headers


class Answer:
    """An answer that comes in pieces. Its methods raise Broken."""

    def __init__(self, connected: socket.socket, end: End) -> None:
        self._socket = connected
        self._end = end
        self._message = _Message()
        self._pace = _Pace()

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self._message.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names in lower case."""
        return self._message.headers

    async def head(self) -> None:
        """Wait until the status and headers are known."""
        while not self._message.begun:
            await self._more()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The content as it comes: with each read all that is new."""
        message = self._message
        while message.pieces or not message.over:
            if message.pieces:
                piece = b"".join(message.pieces)
                message.pieces.clear()
                yield piece
            else:
                await self._more()

    async def content(self) -> bytes:
        """The content, or the rest of it."""
        return b"".join([piece async for piece in self.pieces()])

    async def _more(self) -> None:
        try:
            self._message.feed(await self._read())
        except OSError as error:
            raise Broken(str(error)) from error

    async def _read(self) -> bytes:
        # The loop is told of the socket only while nothing is there: where it is not, no token wakes this process. The
        # end does: a slot is free, and somebody may wait for it.
        if early := self._pace.early():
            await self._end.within(early)
        piece = await asyncio.get_running_loop().sock_recv(self._socket, _PIECE)
        self._pace.came(len(piece))
        return piece


class _Pace:
    """When to read again. A worker of many tokens a second is read once a frame; from a slow one each is read at once,
    since a read that comes before its token would be one more to pay for.
    """

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._reads = 0
        self._last = 0.0
        """When the last read was done."""
        self._due = 0.0
        """When the last read was to begin."""
        self._few = False
        """Whether the next is to be at once."""

    def early(self) -> float:
        """Seconds to wait before the next read."""
        self._reads += 1
        if self._few or self._reads <= _PROMPT_READS:
            self._due = 0.0
            return 0.0
        # All streams in the same moments: one waking for as many as there are.
        self._due = (self._last // FRAME_SECONDS + 1) * FRAME_SECONDS
        return max(0.0, self._due - self._clock())

    def came(self, size: int) -> None:
        """So many bytes were read."""
        now = self._clock()
        if self._due:
            waited = now - self._due > FRAME_SECONDS / 2  # for a token, though a frame was over
            self._few = size >= _TOKENS or waited
        else:
            self._few = size >= _TOKENS or now - self._last > FRAME_SECONDS
        self._last = now


class Channel:
    """The way to one worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends = Ends()

    async def ask(self, method: str, route: str, content: bytes = b"") -> Reply:
        """One request, its answer in one piece. Raises Broken."""
        async with self.open(method, route, content) as answer:
            return Reply(answer.status, await answer.content(), answer.headers)

    @asynccontextmanager
    async def open(self, method: str, route: str, content: bytes = b"") -> AsyncIterator[Answer]:
        """One request, its answer in pieces. Leaving closes the connection, which the worker notices. Raises Broken."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as connected:
            connected.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.sock_connect(connected, str(self._path))
            except (OSError, TimeoutError) as error:
                raise Broken(str(error)) from error
            with suppress(OSError):  # it may answer what it did not read, and has broken off if it does not
                await loop.sock_sendall(connected, _head(method, route, len(content)) + content)
            with self._ends.watch(connected) as end:
                answer = Answer(connected, end)
                await answer.head()
                yield answer


def _head(method: str, route: str, length: int) -> bytes:
    if not _TARGET.fullmatch(route):
        raise Broken(f"no route: {route[:80]!r}")
    lines = f"{method} {route} HTTP/1.1\r\nhost: worker\r\ncontent-type: application/json\r\n"
    return f"{lines}content-length: {length}\r\nconnection: close\r\n\r\n".encode("ascii")
