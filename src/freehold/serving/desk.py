"""The desk: the one way of every request, whatever dialect it came in."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Forbidden, FreeholdError, Timeout, Unsupported
from freehold.core.event import Embeddings, Event, Failed, Ranking, TokenLogprob
from freehold.core.name import Name
from freehold.core.request import EmbedRequest, Request, RerankRequest
from freehold.core.settings import Settings
from freehold.engines.base import Engine, ModelFile, Question, Worker
from freehold.guard import limits
from freehold.serving import fitting, ready
from freehold.serving.admission import Admission, cost, embedding_cost, ranking_cost
from freehold.serving.background import Background
from freehold.serving.batches import Batches
from freehold.serving.files import Files
from freehold.serving.models import Models
from freehold.serving.pool import Held, Key, Pool
from freehold.serving.scrub import Scrub
from freehold.serving.sole import Sole
from freehold.store import Entry, Store
from freehold.store.check import prune
from freehold.store.kept import Kept

_ASKING = 8
"""Questions at the same time; they do not wait for those who generate."""
_LAST_WORD = 2.0
"""Seconds in which a worker that is to be ended tells its numbers."""
_LONG_WORK = 4
"""Downloads and conversions at the same time; more of them wait."""


class Opened(NamedTuple):
    """An answer whose first event is here, so that it will not be refused any more."""

    first: Event
    rest: AsyncGenerator[Event, None]


class Desk:
    """Admission, pool and engine behind `generate`, `open` and `embed`."""

    def __init__(self, settings: Settings, store: Store, engine: Engine, sole: Sole | None = None) -> None:
        self.settings = settings
        self.store = store
        self.sole = sole
        """The one model that is served, whatever a request calls it; None where each is found by its name."""
        self._engine = engine
        self.admission = Admission(settings)
        last = self._before_sleep if sole is not None and sole.metrics else None
        self.pool = Pool(engine, settings, self.admission.make_way, last)
        self.files = Files(settings)
        self.batches = Batches(self, settings)
        self._models = Models(store)
        self.scrub = Scrub(store, settings.scrub_rate)
        self._asking = asyncio.Semaphore(_ASKING)
        self.kept = Kept(settings.answers, settings.kept_answers)
        """Conversations that a later request may go on from."""
        self.background = Background()
        """Answers that are made though nobody waits for them."""
        self.long_work = ThreadPoolExecutor(_LONG_WORK, "long-work")
        """For what blocks longer than a request should: downloads, conversions."""

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
                async with self._worker(request, embedding_cost(request)) as (worker, _):
                    return await worker.embed(await fitting.texts(worker, request) if request.truncate else request)
        except TimeoutError:
            raise _late(request.deadline) from None

    async def rerank(self, request: RerankRequest) -> Ranking:
        """A score for each document."""
        try:
            async with asyncio.timeout(request.deadline):
                async with self._worker(request, ranking_cost(request)) as (worker, _):
                    return await worker.rerank(request)
        except TimeoutError:
            raise _late(request.deadline) from None

    async def ask(self, request: Request, question: Question, body: Mapping[str, Any] | None = None) -> Any:
        """What the engine of the request's model tells of itself, as `engines.base.Worker.ask` has it."""
        try:
            async with asyncio.timeout(request.deadline), self._asking:
                async with self._worker(request, 0, queued=False) as (worker, _):
                    return await worker.ask(question, body or {})
        except TimeoutError:
            raise _late(request.deadline) from None

    async def context(self, request: Request) -> int:
        """Tokens of context that the request's model has here."""
        async with self._asked(request) as (worker, _):
            return worker.context_length

    async def count(self, request: Request) -> int:
        """The tokens of the request's prompt."""
        return len(await self.tokenize(request, await self.prompt(request)))

    async def prompt(self, request: Request) -> str:
        """The text that the request has the model read."""
        async with self._asked(request) as (worker, source):
            return await worker.prompt(await asyncio.to_thread(source.applied, request))

    async def tokenize(self, request: Request, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a text for the request's model; `special` as `engines.base.Worker.tokenize` has it."""
        async with self._asked(request) as (worker, _):
            return await worker.tokenize(text, special=special)

    async def detokenize(self, request: Request, tokens: Sequence[int]) -> str:
        """The text of tokens of the request's model."""
        async with self._asked(request) as (worker, _):
            return await worker.detokenize(tokens)

    async def score(self, request: Request, tokens: Sequence[int], top: int) -> tuple[TokenLogprob, ...]:
        """What the request's model thinks of these tokens, as `engines.base.Worker.score` tells it."""
        async with self._asked(request) as (worker, source):
            return await worker.score(tokens, top, adapter=source.adapter)

    async def load(self, request: Request) -> None:
        """Have the request's model loaded, for as long as the request says."""
        async with self._asked(request):
            pass

    async def known(self, text: str) -> None:
        """Raises UnknownModel for a name that means nothing here."""
        await asyncio.to_thread(self._source, text)

    async def unload(self, text: str) -> None:
        """End the workers of a model as soon as they have answered. Raises UnknownModel."""
        source = await asyncio.to_thread(self._source, text)
        self.pool.release(source.digest)

    async def models(self) -> list[Entry]:
        """The catalog."""
        return await self._models.all()

    async def model(self, text: str) -> Entry:
        """One model of the catalog. Raises UnknownModel."""
        return await self._models.one(text)

    async def forget(self, name: Name) -> None:
        """Take a name out of the catalog, end the workers of a model that has no other, and free its place on the disk.

        Raises UnknownModel, and Forbidden where one model alone is served.
        """
        if self.sole is not None:
            raise Forbidden("this server is there for one model and removes none", "Remove it: freehold rm")
        digest = await asyncio.to_thread(self._unbound, name)
        if digest is not None:
            await self.pool.stop(digest)
        await asyncio.to_thread(prune, self.store)

    def _unbound(self, name: Name) -> Digest | None:
        """The model that has no name any more, once this one is gone."""
        digest = self.store.resolve(name)
        self.store.remove(name)
        return None if any(bound.digest == digest for bound in self.store.catalog.bound()) else digest

    async def close(self) -> None:
        """End what runs beside requests, and the workers."""
        await self.background.close()
        await self.batches.stop()
        await asyncio.to_thread(self.scrub.stop)
        self.long_work.shutdown(wait=False, cancel_futures=True)
        await self.pool.close()
        self._models.close()

    async def _events(self, request: Request) -> AsyncGenerator[Event, None]:
        tokens = cost(request, self.settings.context_length)
        async with self._worker(request, tokens) as (worker, source):
            request = await asyncio.to_thread(source.applied, request)
            if request.truncate:
                request = await fitting.conversation(worker, request)
            async with aclosing(worker.generate(request)) as events:
                async for event in events:
                    yield event

    @asynccontextmanager
    async def _asked(self, request: Request) -> AsyncIterator[tuple[Worker, ready.Source]]:
        """The same for what takes no tokens, within the request's deadline."""
        try:
            async with asyncio.timeout(request.deadline), self._worker(request, 0) as found:
                yield found
        except TimeoutError:
            raise _late(request.deadline) from None

    @asynccontextmanager
    async def _worker(
        self, request: Request | EmbedRequest | RerankRequest, tokens: int, *, queued: bool = True
    ) -> AsyncIterator[tuple[Worker, ready.Source]]:
        """A place and a worker for one request, and what the name of its model means."""
        source = await asyncio.to_thread(self._source, request.model)
        await asyncio.to_thread(source.require, self.settings)
        ranking = isinstance(request, RerankRequest)
        key = Key(source.digest, ranking or isinstance(request, EmbedRequest), ranking=ranking)
        if self.sole is not None and self.sole.embedding:
            key = Key(source.digest, True, ranking=self.sole.ranking)
        if key.embedding and source.adapter:
            raise Unsupported("adapters are applied where text is generated only", "Name the base alone", param="model")
        async with self.admission.slot(key, tokens) if queued else nullcontext():
            file = await asyncio.to_thread(source.file)
            file = msgspec.structs.replace(file, embedding=key.embedding, ranking=key.ranking)
            if source.adapter:
                key, file = await asyncio.to_thread(self._choosing, key, file, source)
            if isinstance(request, Request) and request.context_length is not None:
                key, file = await asyncio.to_thread(self._widened, key, file, request.context_length)
            async with self.pool.worker(key, file, source.lease, request.keep_alive) as worker:
                yield worker, source

    async def _before_sleep(self, held: Held) -> None:
        """Keep what the one model's worker counted."""
        if self.sole is not None:
            with suppress(FreeholdError, TimeoutError):
                async with asyncio.timeout(_LAST_WORD):
                    self.sole.numbers = await held.worker.ask("metrics", {})

    def _source(self, text: str) -> ready.Source:
        return self.sole or ready.source(self.store, text)

    def _choosing(self, key: Key, file: ModelFile, source: ready.Source) -> tuple[Key, ModelFile]:
        """The same with the source's adapter to choose, beside those that the model's workers have."""
        choices = self.pool.choices(key) | {source.adapter: source.adapter_file()}
        return key._replace(adapters=frozenset(choices)), msgspec.structs.replace(file, choices=choices)

    def _widened(self, key: Key, file: ModelFile, wanted: int) -> tuple[Key, ModelFile]:
        """The same with more context, where the model can have it and would not have as much."""
        wide = msgspec.structs.replace(file, context_length=wanted)
        usual, possible = (self._engine.fits(each, self.settings).context_length for each in (file, wide))
        return (key._replace(context=possible), wide) if possible > usual else (key, file)


def _late(seconds: float) -> Timeout:
    return Timeout(f"the answer was not complete after {seconds:.0f} s", "Ask for fewer tokens, or allow more time")
