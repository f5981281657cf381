"""A fake engine that comes in through the real door, stores filled with models, and a real server in a thread."""

import asyncio
import functools
import itertools
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette

from freehold.core.errors import WorkerFailed
from freehold.core.event import Embeddings, Event, Failed, Finished, Ranking, Started, Text, TokenLogprob, Usage
from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.core.request import EmbedRequest, Request, RerankRequest
from freehold.core.settings import Settings
from freehold.engines.base import Fit, ModelFile, Told, nobody
from freehold.serving.protocol import DeadlineProtocol
from freehold.store import Store

_pids = itertools.count(1000)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class FakeWorker:
    """Answers with the words of its script, one each `pause` seconds; `hold` keeps it from going on."""

    def __init__(self, engine: "FakeEngine", model: ModelFile) -> None:
        self.engine = engine
        self.model = model
        self.pid = next(_pids)
        self.context_length = 64
        self.memory = 1 << 20
        self.alive = True
        self.running = 0
        self.cancelled = 0
        self.most_at_once = 0
        self.seen: list[Request] = []

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.seen.append(request)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        done = False
        try:
            if self.engine.refusal is not None:
                yield Failed(self.engine.refusal)
                done = True
                return
            for index in range(request.n):
                yield Started(index)
                for event in self.engine.script:
                    await asyncio.sleep(self.engine.pause)
                    await self.engine.hold.wait()
                    if not self.alive:
                        yield Failed(WorkerFailed("the worker died"))
                        done = True
                        return
                    yield event if isinstance(event, Failed) else _indexed(event, index)
                yield Finished("stop", Usage(3 if index == 0 else 0, len(self.engine.script)), index=index)
            done = True
        finally:
            self.running -= 1
            self.cancelled += not done

    async def embed(self, request: EmbedRequest) -> Embeddings:
        if self.engine.refusal is not None:
            raise self.engine.refusal
        if request.per_token:
            return Embeddings((), per_token=tuple(((0.6, 0.8), (1.0, 0.0)) for _ in request.inputs))
        return Embeddings(tuple((0.6, 0.8) for _ in request.inputs), Usage(prompt_tokens=2 * len(request.inputs)))

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The longer a document, the better."""
        return Ranking(tuple(float(len(each)) for each in request.documents), Usage(5 * len(request.documents)))

    async def ask(self, question: str, body: Any) -> Any:
        """What the engine was told to tell."""
        if question == "pieces":
            return {"tokens": [{"id": len(word), "piece": word} for word in str(body["content"]).split()]}
        self.engine.asked.append((question, body))
        return self.engine.told[question]

    async def prompt(self, request: Request) -> str:
        """Words, a blank after each."""
        self.seen.append(request)
        return "".join(f"{message.content} " for message in request.messages) + (request.prompt or "")

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """A token per word, and one before all."""
        return [0] * special + [len(word) for word in text.split()]

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join("x" * token + " " for token in tokens)

    async def count(self, request: Request) -> int:
        """A token for each image too."""
        return len(await self.tokenize(await self.prompt(request))) + len(request.seen)

    async def score(self, tokens: Sequence[int], top: int = 0, *, adapter: str = "") -> tuple[TokenLogprob, ...]:
        """Each token is as likely as any other; in its place there could have been shorter ones."""
        told = [TokenLogprob("x" * token, -1.0 * bool(place)) for place, token in enumerate(tokens)]
        others = tuple(TokenLogprob("x" * other, -1.0 - other) for other in range(top))
        return tuple(msgspec.structs.replace(each, top=others if place else ()) for place, each in enumerate(told))

    async def stop(self) -> None:
        self.alive = False


def _indexed(event: Any, index: int) -> Event:
    return msgspec.structs.replace(event, index=index)


class FakeEngine:
    """Fake workers, each model taking `model_bytes` of `memory_bytes`."""

    name = "fake"

    def __init__(self, words: Sequence[str] = ("Hello", " ", "world"), pause: float = 0.0) -> None:
        self.script: list[Event] = [Text(word) for word in words]
        self.pause = pause
        self.refusal: Any = None
        self.start_error: Any = None
        self.check_error: Any = None
        self.checked: list[Request] = []
        self.checking = asyncio.Event()
        self.checking.set()
        self.start_seconds = 0.0
        self.memory_bytes = 100
        self.model_bytes = 10
        self.workers: list[FakeWorker] = []
        self.asked: list[tuple[str, Any]] = []
        self.told: dict[str, Any] = {}
        self.hold = asyncio.Event()
        self.hold.set()

    def fits(self, model: ModelFile, settings: Settings) -> Fit:
        used = self.model_bytes * sum(worker.alive for worker in self.workers)
        return Fit(self.model_bytes, 0, 0, self.memory_bytes - used, 64)

    async def start(self, model: ModelFile, settings: Settings, told: Told = nobody) -> FakeWorker:
        told(0.5)
        await asyncio.sleep(self.start_seconds)
        if self.start_error is not None:
            raise self.start_error
        self.workers.append(FakeWorker(self, model))
        return self.workers[-1]

    async def check(self, request: Request, settings: Settings) -> None:
        """Refuses as it was told, once `checking` is set."""
        self.checked.append(request)
        await self.checking.wait()
        if self.check_error is not None:
            raise self.check_error

    async def close(self) -> None:
        """Nothing runs beside the workers."""


def add_model(store: Store, name: str, data: bytes | None = None) -> Manifest:
    """Put a model whose GGUF part is any bytes: the fake engine does not look at them."""
    digest = store.add_bytes(data if data is not None else b"weights of " + name.encode())
    manifest = Manifest(parts=(Part("gguf", digest, 1, "model.gguf"),))
    store.put(Name.parse(name), manifest)
    return manifest


def add_gguf(store: Store, name: str, path: Path) -> None:
    """Import a real GGUF file."""
    from freehold.store import importing

    importing.import_gguf(store, path, Name.parse(name))


@contextmanager
def live(app: Starlette, **config: Any) -> Iterator[str]:
    """Serve `app` on a free loopback port in a thread; the base URL."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(256)
    options = {
        "http": DeadlineProtocol,
        "log_level": "critical",
        "ws": "none",
        "timeout_graceful_shutdown": 2,
        **config,
    }
    server = uvicorn.Server(uvicorn.Config(app, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()
    assert not thread.is_alive()


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until `condition` holds; fails the test when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


async def soon(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """The same inside a loop."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)
