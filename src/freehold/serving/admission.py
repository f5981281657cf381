"""The bounded queue: what may run at once, what may wait, who is sent away before the first byte, who steps aside.

`turns` decides whose turn it is, `room` who has to leave when the queue is full.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from freehold.core.errors import Busy, FreeholdError
from freehold.core.request import EmbedRequest, Request, RerankRequest
from freehold.core.settings import Settings
from freehold.guard.caller import asking
from freehold.serving.pool import Key
from freehold.serving.returning import Returning
from freehold.serving.room import Room, displaced
from freehold.serving.turns import Ticket, Turns

_BYTES_PER_TOKEN = 3
"""Low for English, so that the estimate errs upwards."""
_TOKENS_PER_SECOND = 50
"""A guess at one place's speed for Retry-After, until requests have ended."""
_LONGEST_RETRY = 60
"""Seconds."""
_RESTART = 5
"""Seconds after which a server that stops may be there again."""
_REMEMBERED = 1000
"""Models whose pace is kept."""

_behind: ContextVar[asyncio.Task[Any] | None] = ContextVar("behind", default=None)
"""The task of the background for which something is asked; None when somebody waits for it."""


class _Waiting(NamedTuple):
    """For what a ticket waits, and how it learns the end: with None when it is its turn, or why it will never be."""

    key: Key
    called: "asyncio.Future[FreeholdError | None]"


class Preempted(Exception):
    """Work of the background had to stop for a request that somebody waits for. It is to be begun again."""


def cost(request: Request, context_length: int, image: int = 0) -> int:
    """Tokens that a request may take at most, estimated before anything is tokenised.

    An image counts as `image` tokens, or as the whole context where that is 0.
    """
    text = sum(len(message.content) for message in request.messages)
    if isinstance(request.prompt, str):
        text += len(request.prompt)
    if request.insert is not None:
        insert = request.insert
        text += len(insert.prefix) + len(insert.suffix) + sum(len(file.text) for file in insert.files)
    given = 0 if isinstance(request.prompt, str | None) else len(request.prompt)
    images = len(request.seen) * (image or context_length)
    prompt = min(given + images + text // _BYTES_PER_TOKEN + 1, context_length)
    return request.n * (prompt + min(request.max_tokens or context_length, context_length))


def embedding_cost(request: EmbedRequest) -> int:
    """Tokens that the texts have at most, by the same estimate."""
    return sum(len(text) // _BYTES_PER_TOKEN + 1 if isinstance(text, str) else len(text) for text in request.inputs)


def ranking_cost(request: RerankRequest) -> int:
    """Tokens that the query has at most with each document."""
    text = sum(len(document) for document in request.documents) + len(request.query) * len(request.documents)
    return text // _BYTES_PER_TOKEN + len(request.documents)


class Admission:
    """Lets some requests per model run and, over all models, a bounded number of requests and tokens wait.

    Whose they are is in `guard.caller.asking`. `places` says how many of a model may run; else `parallel` does.
    """

    def __init__(self, settings: Settings, places: Callable[[Key], int] | None = None) -> None:
        self._settings = settings
        self._places = places or (lambda key: self._settings.parallel)
        self._turns: dict[Key, Turns] = defaultdict(Turns)
        self._room = Room()
        self._returning = Returning()
        self._waiting: dict[Ticket, _Waiting] = {}
        self._asking = 0
        """Requests, running and waiting, that somebody waits for."""
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed = False
        self._background: dict[asyncio.Task[Any], Key | None] = {}
        """Tasks of the background, the oldest first, with the model that each asks for."""
        self._preempted: set[asyncio.Task[Any]] = set()

    @property
    def waiting(self) -> int:
        """Requests in the queue, those of the background aside."""
        return self._room.waiting

    @property
    def waiting_tokens(self) -> int:
        """Their tokens."""
        return self._room.tokens

    @property
    def spare(self) -> int:
        """Tasks of the background that may run at once, so that whoever comes finds a place."""
        return max(1, self._settings.parallel - 1)

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on. Who waits already may stay."""
        self._settings = settings
        for key in list(self._turns):
            self._advance(key)

    def close(self) -> None:
        """Send away all who wait, and all who come."""
        self._closed = True
        for ticket in list(self._waiting):
            self._send_away(ticket, stopping())

    @asynccontextmanager
    async def background(self) -> AsyncIterator[None]:
        """What is asked for inside is begun when nobody else asks, and steps aside when its place is wanted.

        To be entered in a task of its own. Raises Preempted when it had to stop.
        """
        while self._asking:
            await self._quiet.wait()
        task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # a coroutine that runs has one
        self._background[task] = None
        mark = _behind.set(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self._preempted and task.uncancel() == 0:
                raise Preempted from None
            raise
        finally:
            _behind.reset(mark)
            self._preempted.discard(task)
            del self._background[task]

    async def make_way(self) -> bool:
        """End what runs in the background, for one that is not of it; whether there was anything."""
        if _behind.get() or not self._background:
            return False
        tasks = list(self._background)
        for task in tasks:
            self._preempt(task)
        await asyncio.wait(tasks)
        return True

    def _preempt(self, task: asyncio.Task[Any]) -> None:
        if task not in self._preempted:
            self._preempted.add(task)
            task.cancel()

    @asynccontextmanager
    async def slot(self, key: Key, tokens: int, patience: float = math.inf) -> AsyncIterator[Ticket]:
        """Hold one of the model's places; whoever leaves it may say how many tokens it `used`.

        Raises Busy, before anything is begun, when the queue is full, or when the wait is or will be longer than
        `patience`, the caller's own or the settings'; RateLimited when this caller has its share of the queue.
        """
        task = _behind.get()
        ticket = Ticket(asking.get(), max(1, tokens), behind=task is not None)
        if task is not None:
            self._background[task] = key
            async with self._place(key, ticket, math.inf):
                yield ticket
            return
        self._asking += 1
        self._quiet.clear()
        try:
            async with self._place(key, ticket, min(patience, ticket.caller.patience, self._settings.queue_seconds)):
                yield ticket
        finally:
            self._asking -= 1
            if not self._asking:
                self._quiet.set()

    @asynccontextmanager
    async def _place(self, key: Key, ticket: Ticket, patience: float) -> AsyncIterator[None]:
        if self._closed:
            raise stopping()
        turns = self._turns[key]
        if turns.waiting or len(turns.running) >= self._places(key):
            await self._wait(key, ticket, patience)
        else:
            turns.begin(ticket, _now())
            self._room.begin(ticket)
        try:
            yield
        finally:
            self._end(key, ticket)

    def _end(self, key: Key, ticket: Ticket) -> None:
        self._room.end(ticket)
        self._turns[key].end(ticket, _now())
        self._advance(key)

    async def _wait(self, key: Key, ticket: Ticket, patience: float) -> None:
        """Return when it is the ticket's turn. A caller that leaves frees its place in the queue."""
        if not ticket.behind:
            self._check_patience(key, ticket, patience)
            self._admit(key, ticket)
            self._step_aside(key)
        self._room.enter(ticket)
        called = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = _Waiting(key, called)
        self._turns[key].enter(ticket)
        try:
            async with asyncio.timeout(None if patience == math.inf else patience):
                error = await called
        except TimeoutError:
            self._give_up(key, ticket)
            said = f"its turn did not come within {patience:.0f} s"
            raise Busy(said, "Try again later", retry_after=self._retry(key)) from None
        except BaseException:
            self._give_up(key, ticket)
            raise
        if error is not None:
            raise error

    def _admit(self, key: Key, ticket: Ticket) -> None:
        """Let it into the queue, where it has room or others have to leave. Raises Busy and RateLimited."""
        later = self._retry(key)
        try:
            leaving = self._room.admit(ticket, self._settings, later)
        except Busy:
            self._returning.told(ticket.tokens, _now(), later, self._room.tokens)
            raise
        for each in leaving:
            self._returning.told(each.tokens, _now(), later, self._room.tokens)
            self._send_away(each, displaced(later))

    def _check_patience(self, key: Key, ticket: Ticket, patience: float) -> None:
        expected = self._turns[key].wait(ticket, self._places(key), _now())
        if expected is not None and expected > patience:
            raise Busy(
                f"it would wait for about {expected:.0f} s, and may for {patience:.0f} s",
                "Try again later",
                retry_after=self._retry(key),
            )

    def _give_up(self, key: Key, ticket: Ticket) -> None:
        """Whoever waited goes, perhaps in the very moment when its turn came."""
        if ticket in self._waiting:
            self._send_away(ticket, None)
        elif ticket.begun is not None:
            self._end(key, ticket)

    def _send_away(self, ticket: Ticket, error: FreeholdError | None) -> None:
        key, _ = self._waiting[ticket]
        self._turns[key].leave(ticket)
        self._call(ticket, error)
        self._drop(key)

    def _advance(self, key: Key) -> None:
        """Give the places that are free to those whose turn it is."""
        turns = self._turns[key]
        while len(turns.running) < self._places(key) and (ticket := turns.next(_now())) is not None:
            self._call(ticket, None)
            self._room.begin(ticket)
        self._drop(key)

    def _call(self, ticket: Ticket, error: FreeholdError | None) -> None:
        """Have it wait no more."""
        _, called = self._waiting.pop(ticket)
        self._room.leave(ticket)
        if not called.done():
            called.set_result(error)

    def _drop(self, key: Key) -> None:
        """Forget a model that nobody asks for, but not its pace."""
        if len(self._turns) > _REMEMBERED and self._turns[key].empty:
            del self._turns[key]

    def _retry(self, key: Key) -> int:
        """Seconds after which the queue is likely to have room, those before it who were sent away too being back."""
        pace = self._turns[key].pace() or 1 / _TOKENS_PER_SECOND
        ahead = self._room.tokens + min(self._room.tokens, self._returning.tokens(_now()))
        seconds = ahead * pace / max(1, self._places(key))
        return min(_LONGEST_RETRY, max(1, round(seconds)))

    def _step_aside(self, key: Key) -> None:
        """Have the youngest task of the background that has a place of this model, or waits for one, leave it."""
        candidates = [task for task, wanted in self._background.items() if wanted == key]
        youngest = next((task for task in reversed(candidates) if task not in self._preempted), None)
        if youngest is not None:
            self._preempt(youngest)


def stopping() -> Busy:
    """Why a server that is to end answers no more."""
    return Busy("the server is stopping", "Ask again when it has started again", retry_after=_RESTART)


def _now() -> float:
    return asyncio.get_running_loop().time()
