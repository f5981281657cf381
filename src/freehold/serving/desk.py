"""The desk: the one way of every request, whatever dialect it came in."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import msgspec

from freehold.core.errors import BadName, Timeout, UnknownModel
from freehold.core.event import Embeddings, Event, Failed
from freehold.core.name import Name
from freehold.core.request import EmbedRequest, Request
from freehold.core.settings import Settings
from freehold.engines.base import Engine, Worker
from freehold.guard import limits
from freehold.serving import ready
from freehold.serving.admission import Admission, cost, embedding_cost
from freehold.serving.pool import Key, Pool
from freehold.serving.scrub import Scrub
from freehold.store import Entry, Store


class Opened(NamedTuple):
    """An answer whose first event is here, so that it will not be refused any more."""

    first: Event
    rest: AsyncGenerator[Event, None]


class Desk:
    """Admission, pool and engine behind `generate`, `open` and `embed`."""

    def __init__(self, settings: Settings, store: Store, engine: Engine) -> None:
        self.settings = settings
        self.store = store
        self.pool = Pool(engine, settings)
        self.admission = Admission(settings)
        self.scrub = Scrub(store, settings.scrub_rate)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """The events of a request. What goes wrong before the first is raised, what goes wrong later is a Failed.

        Closing the generator cancels the request: in the queue, while its model loads, or in the worker.
        """
        limits.check(request)
        end = asyncio.get_running_loop().time() + request.deadline
        begun = False
        async with aclosing(self._events(request)) as events:
            while True:
                try:
                    async with asyncio.timeout_at(end):
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    event = Failed(_late(request.deadline))
                if isinstance(event, Failed) and not begun:
                    raise event.error
                begun = True
                yield event
                if isinstance(event, Failed):
                    return

    async def open(self, request: Request) -> Opened:
        """The answer, once it has begun. Raises what `generate` raises before its first event."""
        events = self.generate(request)
        return Opened(await anext(events), events)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector per input."""
        try:
            async with asyncio.timeout(request.deadline):
                async with self._worker(request.model, True, embedding_cost(request)) as (worker, _):
                    return await worker.embed(request)
        except TimeoutError:
            raise _late(request.deadline) from None

    async def count(self, request: Request) -> int:
        """The tokens of the request's prompt."""
        try:
            async with asyncio.timeout(request.deadline):
                async with self._worker(request.model, False, 0) as (worker, source):
                    return await worker.count(await asyncio.to_thread(source.applied, request))
        except TimeoutError:
            raise _late(request.deadline) from None

    async def models(self) -> list[Entry]:
        """The catalog."""
        return await asyncio.to_thread(self.store.list)

    async def model(self, text: str) -> Entry:
        """One model of the catalog. Raises UnknownModel."""
        name = _parsed(text)
        await asyncio.to_thread(self.store.resolve, name)
        return next(entry for entry in await self.models() if entry.name == name)

    async def _events(self, request: Request) -> AsyncGenerator[Event, None]:
        tokens = cost(request, self.settings.context_length)
        async with self._worker(request.model, False, tokens) as (worker, source):
            request = await asyncio.to_thread(source.applied, request)
            async with aclosing(worker.generate(request)) as events:
                async for event in events:
                    yield event

    @asynccontextmanager
    async def _worker(self, text: str, embedding: bool, tokens: int) -> AsyncIterator[tuple[Worker, ready.Source]]:
        """A place and a worker for one request to the model of this name, and what the name means."""
        source = await asyncio.to_thread(ready.source, self.store, text)
        await asyncio.to_thread(source.require, self.settings)
        key = Key(source.digest, embedding)
        async with self.admission.slot(key, tokens):
            file = await asyncio.to_thread(source.file)
            file = msgspec.structs.replace(file, embedding=embedding)
            async with self.pool.worker(key, file, source.lease) as worker:
                yield worker, source


def _parsed(text: str) -> Name:
    try:
        return Name.parse(text)
    except BadName as error:
        raise UnknownModel(f"no model named {text[:120]!r}", error.remedy, param="model") from error


def _late(seconds: float) -> Timeout:
    return Timeout(f"the answer was not complete after {seconds:.0f} s", "Ask for fewer tokens, or allow more time")
