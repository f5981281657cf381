"""A llama-server that says what it is told to say, byte by byte, and the worker's side connected to it."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from freehold.engines.base import ModelFile
from freehold.engines.llamacpp.client import LlamaWorker
from freehold.engines.supervisor import Child, Socket

PROPERTIES = {"default_generation_settings": {"n_ctx": 64}, "chat_template_caps": {"supports_tools": True}}
Answer = bytes | Sequence[bytes] | Callable[[Any], bytes]
"""Bytes, pieces of them, or what makes them of the body that was sent."""


def plain(body: object, status: str = "200 OK", **headers: str) -> bytes:
    """An answer in one piece; bytes are sent as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    told = {"content-type": "application/json", "content-length": str(len(data)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + data


def frame(chunk: object) -> bytes:
    """One chunk of a stream."""
    data = chunk if isinstance(chunk, bytes) else json.dumps(chunk, ensure_ascii=False).encode()
    return b"data: " + data + b"\n\n"


def streamed(*chunks: object, end: bytes = b"data: [DONE]\n\n") -> bytes:
    """A stream that ends with its connection."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return head + b"".join(frame(chunk) for chunk in chunks) + end


def said(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with a piece of an answer."""
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}], **more}


def ended(reason: str = "stop", index: int = 0, **timings: int) -> dict[str, Any]:
    """The chunk that ends a choice."""
    return {"choices": [{"index": index, "delta": {}, "finish_reason": reason}], "timings": timings}


class FakeServer:
    """Answers each route with its bytes; of a sequence, one after the other, a moment apart."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {"/health": plain({"status": "ok"}), "/props": plain(PROPERTIES)}
        self.asked: list[tuple[str, Any]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.left = 0
        """Connections that the other side closed while an answer was held."""

    def bodies(self, route: str) -> list[Any]:
        """What was asked of a route."""
        return [body for path, body in self.asked if path == route]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r")[0] or 0)
        path = head.split(" ")[1]
        body = await reader.readexactly(length)
        sent = json.loads(body) if body else None
        self.asked.append((path, sent))
        answer = self.answers.get(path, plain({"error": {"code": 404, "message": "no such route"}}, "404 Not Found"))
        answer = answer(sent) if callable(answer) else answer
        for piece in [answer] if isinstance(answer, bytes) else answer:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await self._held(reader)
        writer.close()

    async def _held(self, reader: asyncio.StreamReader) -> None:
        held, gone = asyncio.ensure_future(self.hold.wait()), asyncio.ensure_future(reader.read())
        await asyncio.wait({held, gone}, return_when=asyncio.FIRST_COMPLETED)
        self.left += not held.done()
        for each in (held, gone):
            each.cancel()
        await asyncio.gather(held, gone, return_exceptions=True)


@asynccontextmanager
async def served(
    folder: Path, *, slots: int = 2, embedding: bool = False, command: Sequence[str] = ("cat",)
) -> AsyncIterator[tuple[FakeServer, LlamaWorker]]:
    """The fake and a worker that is connected to it; its process is one that only waits."""
    socket = Socket(folder / "run")
    found = [shutil.which(command[0]) or command[0], *command[1:]]
    child = Child(found, None, {}, "tiny")
    fake = FakeServer()
    listening = await asyncio.start_unix_server(fake.connected, str(socket.path))
    worker = LlamaWorker(child, socket, slots, ModelFile(Path("tiny.gguf"), "tiny", embedding))
    try:
        await worker.connect()
        yield fake, worker
    finally:
        fake.hold.set()
        listening.close()
        await worker.stop()
