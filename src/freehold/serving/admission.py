"""The bounded queue: what may run at once, what may wait, who is sent away before the first byte, who steps aside."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from freehold.core.errors import Busy
from freehold.core.request import EmbedRequest, Request, RerankRequest
from freehold.core.settings import Settings
from freehold.serving.pool import Key

_BYTES_PER_TOKEN = 3
"""Low for English, so that the estimate errs upwards."""
_TOKENS_PER_SECOND = 50
"""A guess at one worker's speed, for Retry-After only."""

_behind: ContextVar[asyncio.Task[Any] | None] = ContextVar("behind", default=None)
"""The task of the background for which something is asked; None when somebody waits for it."""


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
    """Lets `parallel` requests per model run and, over all models, a bounded number of requests and tokens wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: dict[Key, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(settings.parallel))
        self.waiting = 0
        self.waiting_tokens = 0
        self._asking = 0
        """Requests, running and waiting, that somebody waits for."""
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._background: dict[asyncio.Task[Any], Key | None] = {}
        """Tasks of the background, the oldest first, with the model that each asks for."""
        self._preempted: set[asyncio.Task[Any]] = set()

    @property
    def spare(self) -> int:
        """Tasks of the background that may run at once, so that whoever comes finds a place."""
        return max(1, self._settings.parallel - 1)

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
    async def slot(self, key: Key, tokens: int) -> AsyncIterator[None]:
        """Hold one of the model's places. Raises Busy at once when the queue is full."""
        if (task := _behind.get()) is not None:
            self._background[task] = key
            async with self._place(key, tokens):
                yield
            return
        self._asking += 1
        self._quiet.clear()
        try:
            async with self._place(key, tokens):
                yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._quiet.set()

    @asynccontextmanager
    async def _place(self, key: Key, tokens: int) -> AsyncIterator[None]:
        places = self._running[key]
        if places.locked():
            self._check_room(tokens)
            if _behind.get() is None:
                self._step_aside(key)
        self.waiting += 1
        self.waiting_tokens += tokens
        try:
            await places.acquire()
        finally:
            self.waiting -= 1
            self.waiting_tokens -= tokens
        try:
            yield
        finally:
            places.release()

    def _step_aside(self, key: Key) -> None:
        """Have the youngest task of the background that has a place of this model, or waits for one, leave it."""
        candidates = [task for task, wanted in self._background.items() if wanted == key]
        youngest = next((task for task in reversed(candidates) if task not in self._preempted), None)
        if youngest is not None:
            self._preempt(youngest)

    def _check_room(self, tokens: int) -> None:
        settings = self._settings
        full = self.waiting >= settings.queue
        if full or self.waiting_tokens + tokens > settings.queue_tokens:
            what = f"{self.waiting} requests" if full else f"{self.waiting_tokens} tokens"
            seconds = self.waiting_tokens // (_TOKENS_PER_SECOND * settings.parallel)
            raise Busy(f"{what} are waiting already", "Try again later", retry_after=min(60, max(1, seconds)))
