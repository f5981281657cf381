"""The desk: the one way of every request, whatever dialect it came in."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
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
from freehold.guard.caller import asking
from freehold.serving import fitting, ready
from freehold.serving.admission import Admission, cost, embedding_cost, ranking_cost, stopping
from freehold.serving.background import Background
from freehold.serving.batches import Batches
from freehold.serving.checks import Checks
from freehold.serving.files import Files
from freehold.serving.models import Models
from freehold.serving.pinned import Pins
from freehold.serving.pool import Held, Key, Pool
from freehold.serving.scrub import Scrub
from freehold.serving.sole import Sole
from freehold.serving.tunings import Tunings
from freehold.serving.turns import Meter, Ticket
from freehold.store import Entry, Store
from freehold.store.check import prune
from freehold.store.kept import Kept

_ASKING = 8
"""Questions at the same time; they do not wait for those who generate."""
_LOOK = 16
"""Tokens for which a question about a text counts: it takes none, but time."""
_MOMENT = 0.05
"""Seconds before its time is up in which a request that still waits hears of the queue, and not of a late answer."""
_LAST_WORD = 2.0
"""Seconds in which a worker that is to be ended tells its numbers."""
_NO_BLOB = Digest.of_bytes(b"")
_LONG_WORK = 4
"""Downloads and conversions at the same time; more of them wait."""


class Opened(NamedTuple):
    """An answer whose first event is here, so that it will not be refused any more."""

    first: Event
    rest: AsyncGenerator[Event, None]


class Meant(NamedTuple):
    """What a request says, once its model is known."""

    tokens: int
    """That it may take."""
    request: Request | None
    """With what its model brings along; None where it asks for no text."""


class Placed(NamedTuple):
    """What a request has while it is worked on."""

    worker: Worker
    source: ready.Source
    request: Request | None
    """As `Meant` has it."""
    ticket: Ticket
    """Its place. What it took is written there."""


class Desk:
    """Admission, pool and engine behind `generate`, `open` and `embed`."""

    def __init__(self, settings: Settings, store: Store, engine: Engine, sole: Sole | None = None) -> None:
        self.settings = settings
        self.store = store
        self.sole = sole
        """The one model that is served, whatever a request calls it; None where each is found by its name."""
        self._engine = engine
        self.admission = Admission(settings, lambda key: self.pool.places(key))
        last = self._before_sleep if sole is not None and sole.metrics else None
        self._checks = Checks(engine)
        self.pool = Pool(engine, settings, self.admission.make_way, last)
        self.files = Files(settings)
        self.batches = Batches(self, settings)
        self.tunings = Tunings(self, settings)
        self._models = Models(store)
        self.scrub = Scrub(store, settings.scrub_rate)
        self._asking = asyncio.Semaphore(_ASKING)
        self.kept = Kept(settings.answers, settings.kept_answers)
        """Conversations that a later request may go on from."""
        self.background = Background()
        """Answers that are made though nobody waits for them."""
        self.long_work = ThreadPoolExecutor(_LONG_WORK, "long-work")
        """For what blocks longer than a request should: downloads, conversions."""
        self._rendering = ThreadPoolExecutor(1, "rendering")
        """For templates that clients send: one that takes as long as it may keeps none waiting but others of these."""
        self.pins = Pins(self)
        self.draining = False
        """Whether the server is to end."""
        self._running: set[asyncio.Timeout] = set()
        """Until when each answer may go on."""
        self._last_moment = math.inf

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on. What runs is not touched; see `core.settings.FIXED` for what stays."""
        self.settings = settings
        self.admission.adopt(settings)
        self.pool.adopt(settings)
        self.files.adopt(settings)
        self.batches.adopt(settings)
        self.scrub.adopt(settings.scrub_rate)
        self.kept.adopt(settings.kept_answers)
        self.store.blobs.quota = settings.quota
        self.pins.wake()

    async def unready(self) -> str:
        """Why requests are not answered now, in words that name no model; empty if they are."""
        if self.draining:
            return "the server is stopping"
        if self.sole is not None and not self.sole.loaded:
            return "the model is being loaded"
        if not self.pins.whole:
            return "pinned models are not loaded"
        try:
            await asyncio.to_thread(self.store.catalog.stamp, _NO_BLOB)  # any question that the catalog itself answers
        except FreeholdError as error:
            return f"the catalog cannot be read ({error.code})"
        return ""

    def drain(self) -> float:
        """Begin nothing more, and have what runs end within `drain_seconds`, which is returned. Who waits is told."""
        self.draining = True
        self._last_moment = asyncio.get_running_loop().time() + self.settings.drain_seconds
        for timeout in self._running:
            if not timeout.expired():
                timeout.reschedule(min(self._last_moment, timeout.when() or math.inf))
        self.admission.close()
        return self.settings.drain_seconds

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
                    async with self._until(end):
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    late = _late(request.deadline) if end < self._last_moment else stopping()
                    event = Failed(late)
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
        async with self._within(request), self._worker(request) as (worker, _, _, ticket):
            request = await fitting.texts(worker, request) if request.truncate else request
            found = await worker.embed(request)
            ticket.took(found.usage.prompt_tokens or ticket.tokens)
            return found

    async def rerank(self, request: RerankRequest) -> Ranking:
        """A score for each document."""
        async with self._within(request), self._worker(request) as (worker, _, _, ticket):
            found = await worker.rerank(request)
            ticket.took(found.usage.prompt_tokens or ticket.tokens)
            return found

    async def ask(self, request: Request, question: Question, body: Mapping[str, Any] | None = None) -> Any:
        """What the engine of the request's model tells of itself, as `engines.base.Worker.ask` has it."""
        async with self._within(request), self._asking, self._worker(request, queued=False) as (worker, *_):
            return await worker.ask(question, body or {})

    async def context(self, request: Request) -> int:
        """Tokens of context that the request's model has here."""
        async with self._asked(request) as (worker, *_):
            return worker.context_length

    async def count(self, request: Request) -> int:
        """The tokens of the request's prompt."""
        limits.check(request)
        async with self._asked(request) as found:
            return await found.worker.count(found.request or request)

    async def prompt(self, request: Request) -> str:
        """The text that the request has the model read."""
        async with self._asked(request) as found:
            return await found.worker.prompt(found.request or request)

    async def tokenize(self, request: Request, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a text for the request's model; `special` as `engines.base.Worker.tokenize` has it."""
        async with self._asked(request) as (worker, *_):
            return await worker.tokenize(text, special=special)

    async def detokenize(self, request: Request, tokens: Sequence[int]) -> str:
        """The text of tokens of the request's model."""
        async with self._asked(request) as (worker, *_):
            return await worker.detokenize(tokens)

    async def score(self, request: Request, tokens: Sequence[int], top: int) -> tuple[TokenLogprob, ...]:
        """What the request's model thinks of these tokens, as `engines.base.Worker.score` tells it."""
        async with self._asked(request) as found:
            return await found.worker.score(tokens, top, adapter=found.source.adapter)

    async def rendered(self, render: Callable[[Request, str], Request], request: Request, template: str) -> Request:
        """The request as `render` makes it of a template that came with it."""
        return await asyncio.get_running_loop().run_in_executor(self._rendering, render, request, template)

    async def load(self, request: Request | EmbedRequest) -> None:
        """Have the request's model loaded, for as long as the request says."""
        async with self._asked(request):
            pass

    async def known(self, text: str) -> None:
        """Raises UnknownModel for a name that means nothing here."""
        await self._source(text)

    async def unload(self, text: str) -> None:
        """End the workers of a model as soon as they have answered. Raises UnknownModel."""
        self.pool.release(await self.digest(text))

    async def digest(self, text: str) -> Digest:
        """What a name means now. Raises UnknownModel."""
        return (await self._source(text)).digest

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
        await self.pins.stop()
        await self.background.close()
        await self.batches.stop()
        await self.tunings.stop()
        await asyncio.to_thread(self.scrub.stop)
        for pool in (self.long_work, self._rendering):
            pool.shutdown(wait=False, cancel_futures=True)
        await self.pool.close()
        await self._engine.close()
        self._models.close()

    async def _events(self, request: Request) -> AsyncGenerator[Event, None]:
        async with self._worker(request) as (worker, _, meant, ticket):
            request = meant or request
            if request.truncate:
                request = await fitting.conversation(worker, request)
            meter = Meter(ticket, request.n)
            async with aclosing(worker.generate(request)) as events:
                async for event in events:
                    meter.feed(event)
                    yield event

    @asynccontextmanager
    async def _until(self, end: float) -> AsyncIterator[None]:
        """A timeout that a server that is to end makes shorter."""
        async with asyncio.timeout_at(min(end, self._last_moment)) as timeout:
            self._running.add(timeout)
            try:
                yield
            finally:
                self._running.discard(timeout)

    @asynccontextmanager
    async def _within(self, request: Request | EmbedRequest | RerankRequest) -> AsyncIterator[None]:
        """The same for what is answered in one piece. Raises Timeout, and Busy where the server's end came first."""
        end = asyncio.get_running_loop().time() + request.deadline
        try:
            async with self._until(end):
                yield
        except TimeoutError:
            raise (_late(request.deadline) if end < self._last_moment else stopping()) from None

    @asynccontextmanager
    async def _asked(self, request: Request | EmbedRequest) -> AsyncIterator[Placed]:
        """The same for what takes no tokens, within the request's deadline."""
        async with self._within(request), self._worker(request, brief=True) as found:
            yield found

    @asynccontextmanager
    async def _worker(
        self, request: Request | EmbedRequest | RerankRequest, *, queued: bool = True, brief: bool = False
    ) -> AsyncIterator[Placed]:
        """A place and a worker for one request, and what the name of its model means; `brief` takes few tokens."""
        source = await self._source(request.model)
        tokens, meant = await asyncio.to_thread(self._meant, request, source)
        if isinstance(request, Request):
            await self._checks.check(request, self.settings)
        ranking = isinstance(request, RerankRequest)
        key = Key(source.digest, ranking or isinstance(request, EmbedRequest), ranking=ranking)
        if self.sole is not None and self.sole.embedding:
            key = Key(source.digest, True, ranking=self.sole.ranking)
        if key.embedding and source.adapter:
            raise Unsupported("adapters are applied where text is generated only", "Name the base alone", param="model")
        patience = request.deadline - min(_MOMENT, request.deadline / 2)
        counted = _LOOK if brief else tokens
        place = self.admission.slot(key, counted, patience) if queued else nullcontext(Ticket(asking.get(), 0))
        async with place as ticket:
            held = self.pool.file(key)
            file = await asyncio.to_thread(source.file) if held is None else held
            file = msgspec.structs.replace(file, embedding=key.embedding, ranking=key.ranking)
            if source.adapter:
                key, file = await asyncio.to_thread(self._choosing, key, file, source)
            if isinstance(request, Request) and request.context_length is not None:
                key, file = await asyncio.to_thread(self._widened, key, file, request.context_length)
            async with self.pool.worker(key, file, source.lease, request.keep_alive) as worker:
                if ticket.begun is not None:
                    ticket.begun = asyncio.get_running_loop().time()
                yield Placed(worker, source, meant, ticket)

    def _meant(self, request: Request | EmbedRequest | RerankRequest, source: ready.Source) -> Meant:
        """Raises Forbidden, Unsupported and Damaged. In one go: each way to a thread and back costs."""
        source.require(self.settings)
        tokens = self._cost(request, source)
        return Meant(tokens, source.applied(request) if isinstance(request, Request) else None)

    def _cost(self, request: Request | EmbedRequest | RerankRequest, source: ready.Source) -> int:
        """Tokens that it may take. Raises Unsupported for images to a model that sees none."""
        if isinstance(request, EmbedRequest):
            return embedding_cost(request)
        if isinstance(request, RerankRequest):
            return ranking_cost(request)
        eye = source.eye() if request.seen else None
        if request.seen and eye is None:
            raise Unsupported(
                f"{source.label} does not see images",
                "Send text alone, or take a model with a projector",
                param="messages",
            )
        return cost(request, self.settings.context_length, eye.tokens if eye else 0)

    async def _before_sleep(self, held: Held) -> None:
        """Keep what the one model's worker counted."""
        if self.sole is not None:
            with suppress(FreeholdError, TimeoutError):
                async with asyncio.timeout(_LAST_WORD):
                    self.sole.numbers = await held.worker.ask("metrics", {})

    async def _source(self, text: str) -> ready.Source:
        return self.sole or await self._models.source(text)

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
