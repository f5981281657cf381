"""The bounded queue: what may run at once, what may wait, and who is sent away before the first byte."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from freehold.core.errors import Busy
from freehold.core.request import EmbedRequest, Request
from freehold.core.settings import Settings
from freehold.serving.pool import Key

_BYTES_PER_TOKEN = 3
"""Low for English, so that the estimate errs upwards."""
_TOKENS_PER_SECOND = 50
"""A guess at one worker's speed, for Retry-After only."""


def cost(request: Request, context_length: int) -> int:
    """Tokens that a request may take at most, estimated before anything is tokenised."""
    text = sum(len(message.content) for message in request.messages)
    if isinstance(request.prompt, str):
        text += len(request.prompt)
    given = 0 if isinstance(request.prompt, str | None) else len(request.prompt)
    prompt = min(given + text // _BYTES_PER_TOKEN + 1, context_length)
    return request.n * (prompt + min(request.max_tokens or context_length, context_length))


def embedding_cost(request: EmbedRequest) -> int:
    """Tokens that the texts have at most, by the same estimate."""
    return sum(len(text) // _BYTES_PER_TOKEN + 1 if isinstance(text, str) else len(text) for text in request.inputs)


class Admission:
    """Lets `parallel` requests per model run and, over all models, a bounded number of requests and tokens wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: dict[Key, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(settings.parallel))
        self.waiting = 0
        self.waiting_tokens = 0

    @asynccontextmanager
    async def slot(self, key: Key, tokens: int) -> AsyncIterator[None]:
        """Hold one of the model's places. Raises Busy at once when the queue is full."""
        places = self._running[key]
        if places.locked():
            self._check_room(tokens)
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

    def _check_room(self, tokens: int) -> None:
        settings = self._settings
        full = self.waiting >= settings.queue
        if full or self.waiting_tokens + tokens > settings.queue_tokens:
            what = f"{self.waiting} requests" if full else f"{self.waiting_tokens} tokens"
            seconds = self.waiting_tokens // (_TOKENS_PER_SECOND * settings.parallel)
            raise Busy(f"{what} are waiting already", "Try again later", retry_after=min(60, max(1, seconds)))
