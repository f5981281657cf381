"""What has to be compiled for a request is checked before it may wait for a worker: in turns, one for each client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from freehold.core.errors import RateLimited
from freehold.core.request import Request
from freehold.core.settings import Settings
from freehold.engines.base import Engine
from freehold.guard.caller import asking

WAITING = 64
"""Requests of one client that may wait to be checked."""


class Checks:
    """Has the engine check requests. Those with nothing to compile pass at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lines: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    async def check(self, request: Request, settings: Settings) -> None:
        """Raises BadInput for what would harm a worker, Busy where that could not be found out or too many wait."""
        if request.constraint is not None or request.tools:
            async with self._turn(asking.get().who):
                await self._engine.check(request, settings)

    @asynccontextmanager
    async def _turn(self, who: str) -> AsyncIterator[None]:
        """One at a time for each client, so that one that sends much does not keep others waiting for long."""
        if self._waiting.get(who, 0) >= WAITING:
            raise RateLimited(f"{WAITING} of your requests wait for their grammars to be checked", "Try again later")
        line = self._lines.setdefault(who, asyncio.Lock())
        self._waiting[who] = self._waiting.get(who, 0) + 1
        try:
            async with line:
                yield
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who], self._lines[who]
