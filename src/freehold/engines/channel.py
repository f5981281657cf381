"""HTTP/1.1 to a worker over its Unix socket, a connection for each request.

Every token of every stream comes through here. A general client costs more a token than the rest of the server does,
and what it takes of the processor is missing to the worker beside it.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import h11

CONNECT_SECONDS = 5.0
FRAME_SECONDS = 0.025
"""Between two reads of a fast worker's tokens, too short to be seen: waking costs more than another token."""
_PROMPT_READS = 8
"""Reads that wait for nothing, since the first token is among them."""
_PIECE = 1 << 16
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


class Answer:
    """An answer that comes in pieces. Its methods raise Broken."""

    def __init__(self, connected: socket.socket, connection: h11.Connection) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._socket = connected
        self._connection = connection
        self._pace = _Pace()

    async def head(self) -> None:
        """Wait until the status and headers are known."""
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        if not isinstance(event, h11.Response):
            raise Broken(f"no head of an answer but {type(event).__name__}")
        self.status = event.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The content as it comes."""
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)

    async def content(self) -> bytes:
        """The content, or the rest of it."""
        return b"".join([piece async for piece in self.pieces()])

    async def _next(self) -> object:
        try:
            while (event := self._connection.next_event()) is h11.NEED_DATA:
                self._connection.receive_data(await self._read())
        except (OSError, h11.RemoteProtocolError) as error:
            raise Broken(str(error)) from error
        return event

    async def _read(self) -> bytes:
        # The loop is told of the socket only while nothing is there: where it is not, no token wakes this process.
        if early := self._pace.early():
            await asyncio.sleep(early)
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
        self._due = self._last + FRAME_SECONDS
        return max(0.0, self._due - self._clock())

    def came(self, size: int) -> None:
        """So many bytes were read."""
        now = self._clock()
        if self._due:
            waited = now - self._due > FRAME_SECONDS / 2  # for a token, though a frame was over
            self._few = size >= _TOKENS or waited
        else:
            self._few = size >= _TOKENS or now - self._last > FRAME_SECONDS / 2
        self._last = now


class Channel:
    """The way to one worker."""

    def __init__(self, path: Path) -> None:
        self._path = path

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
            connection = h11.Connection(h11.CLIENT)
            with suppress(OSError):  # it may answer what it did not read, and has broken off if it does not
                await loop.sock_sendall(connected, _request(connection, method, route, content))
            answer = Answer(connected, connection)
            await answer.head()
            yield answer


def _request(connection: h11.Connection, method: str, route: str, content: bytes) -> bytes:
    headers: Mapping[str, str] = {
        "host": "worker",
        "content-type": "application/json",
        "content-length": str(len(content)),
        "connection": "close",
    }
    parts = (
        h11.Request(method=method, target=route, headers=list(headers.items())),
        h11.Data(data=content),
        h11.EndOfMessage(),
    )
    return b"".join(connection.send(part) or b"" for part in parts)
