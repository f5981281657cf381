"""Reading bodies and writing streams with deadlines, and noticing clients that leave."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freehold.core.errors import BadInput, Interrupted, NotFound, Timeout, TooLarge, UnsupportedMedia

BODY_SECONDS = 60.0
"""In which a request's body must be here."""
STALL_SECONDS = 30.0
"""For which a client may read nothing of what it is sent."""
_PIECE = 256 << 10
T = TypeVar("T")


async def read_body(request: Request, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """The body of a request. Raises TooLarge, UnsupportedMedia, Timeout."""
    require_plain(request)
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Timeout(f"the body was not here after {seconds:.0f} s", "Send it faster") from None
    except ClientDisconnect as error:
        raise BadInput("the client left before its body was here") from error
    return bytes(body)


async def read_chunks(request: Request, seconds: float = BODY_SECONDS) -> AsyncGenerator[bytes, None]:
    """The body in pieces, each in time. Raises UnsupportedMedia, Timeout, and BadInput when the client leaves."""
    require_plain(request)
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Timeout(f"nothing more of the body came for {seconds:.0f} s", "Send it faster") from None
        except ClientDisconnect as error:
            raise BadInput("the client left before its body was here") from error
        yield piece


async def drained(chunks: AsyncGenerator[bytes, None], limit: int) -> None:
    """Read a body that nobody wants: many clients see no answer before they have sent all of it. Raises TooLarge."""
    size = 0
    async with aclosing(chunks) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > limit:
                raise _too_large(limit)


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in one piece."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def require_plain(request: Request) -> None:
    """Raises UnsupportedMedia for a body that is compressed: it may be of any size."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("compressed bodies are not taken", "Send the body as it is")


def require_json(request: Request, *, curl: bool = False) -> None:
    """Raises UnsupportedMedia unless the body says it is JSON; a browser asks before it sends that elsewhere.

    With `curl` it may also say what `curl -d` says of every body, or nothing.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (curl and kind in ("", "application/x-www-form-urlencoded")):
        raise UnsupportedMedia(f"the content type is {kind[:80]!r}", "Send the header 'Content-Type: application/json'")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes", "Send less, or raise FREEHOLD_MAX_BODY")


def departure(receive: Receive) -> Callable[[], Awaitable[None]]:
    """A function that returns when the client has left. For use after the body was read."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    return gone


async def while_connected(gone: Callable[[], Awaitable[None]], work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, cancelled when the client leaves. Raises Interrupted then."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Interrupted("the client left before its answer was ready")
        return task.result()
    finally:
        for each in (task, leaving):
            each.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


class EventStream(Response):
    """A stream of server-sent events that ends, and closes its origin, when the client leaves or stops reading."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        origin: AsyncGenerator[Any, None] | None = None,
        stall: float = STALL_SECONDS,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._origin = origin
        self._stall = stall
        self._waiting: list[bytes] = []
        self._size = 0
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._sending = False
        self._sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        pumping = asyncio.ensure_future(self._pump(send))
        leaving = [asyncio.ensure_future(departure(receive)()), asyncio.ensure_future(self._stalled())]
        try:
            await asyncio.wait({pumping, *leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pumping, *leaving):
                task.cancel()
            results = await asyncio.gather(pumping, *leaving, return_exceptions=True)
            if self._origin is not None:
                await self._origin.aclose()  # the source does not do it if it was never begun
        failure = results[0]
        if isinstance(failure, BaseException) and not isinstance(failure, asyncio.CancelledError):
            raise failure

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        filling = asyncio.ensure_future(self._fill())
        try:
            while data := await self._gathered(filling):
                self._sending = True
                await send({"type": "http.response.body", "body": data, "more_body": True})
                self._sending = False
                self._sent += 1
            await filling
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)

    async def _fill(self) -> None:
        try:
            async with aclosing(self._source) as source:
                async for data in source:
                    self._waiting.append(data)
                    self._size += len(data)
                    if data:
                        self._some.set()
                    while self._size >= _PIECE:
                        self._room.clear()
                        await self._room.wait()
        finally:
            self._some.set()

    async def _gathered(self, filling: "asyncio.Future[None]") -> bytes:
        """What came since the last piece was sent, in one: a piece for each token wakes both sides for each.

        Empty when nothing more comes.
        """
        while not self._size and not filling.done():
            self._some.clear()
            await self._some.wait()
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._room.set()
        return data

    async def _stalled(self) -> None:
        """Return when a client has read nothing for too long. A timeout around each piece would cost more than that."""
        looks, seen, unmoved = 8, -1, 0
        while unmoved < looks:
            await asyncio.sleep(self._stall / looks)
            unmoved = unmoved + 1 if self._sending and self._sent == seen else 0
            seen = self._sent


class LineStream(EventStream):
    """The same of JSON values, one a line."""

    media_type = "application/x-ndjson"


class FileStream(EventStream):
    """A file of the disk; with a filename, as something to save. Raises NotFound."""

    def __init__(self, path: Path, media_type: str, filename: str = "") -> None:
        self.media_type = media_type
        super().__init__(_pieces(path))
        try:
            self.headers["content-length"] = str(path.stat().st_size)
        except FileNotFoundError as error:
            raise NotFound("the file is not on the disk any more", "Make it again") from error
        if filename:
            self.headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"


async def _pieces(path: Path) -> AsyncGenerator[bytes, None]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
