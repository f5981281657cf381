"""Work that goes on though its client has left, and what it told so far, for whoever asks again."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from freehold.core.errors import Busy

MOST = 256
"""Works at the same time."""
_ENDED = 64
"""Works that have ended and are still told of."""


class Work:
    """One of them. `subject` is what it makes, as its maker knows it."""

    def __init__(self, subject: Any, cancelled: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.subject = subject
        self.told: list[Any] = []
        self.ended = False
        self.closing = False
        """Whether it is past the point where it could be cancelled: what it made is being kept."""
        self._cancelled = cancelled
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def tell(self, said: Any) -> None:
        """Add to what it told."""
        self.told.append(said)
        self._wake()

    async def listen(self, begin: int = 0) -> AsyncGenerator[Any, None]:
        """What it told from the place `begin` on, and what it tells, until it ends."""
        while True:
            changed = self._changed
            for said in self.told[begin:]:
                begin += 1
                yield said
            if begin >= len(self.told) and self.ended:
                return
            if changed is self._changed:
                await changed.wait()

    async def finished(self) -> None:
        """Wait for its end."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """End it, unless it has ended or is about to; then what is to be done about that is done."""
        if self._task is None or self.ended:
            return
        complete = self.closing
        await self.stop()
        if not complete:
            await self._cancelled()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Set it going."""
        self._task = asyncio.create_task(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self.ended = True
            self._wake()

    async def stop(self) -> None:
        """End it, or wait for its end if it is past that, and do nothing about it."""
        if self._task is not None:
            if not self.closing:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Background:
    """The works of one server, by the names under which they are asked after."""

    def __init__(self) -> None:
        self._works: dict[str, Work] = {}

    def begin(self, name: str, work: Work, doing: Coroutine[Any, Any, None]) -> None:
        """Set a work going. Raises Busy when too many are."""
        ended = [each for each, other in self._works.items() if other.ended]
        if len(self._works) - len(ended) >= MOST:
            doing.close()
            raise Busy(f"{MOST} answers are made in the background already", "Try again later")
        for each in ended[: max(0, len(ended) + 1 - _ENDED)]:
            del self._works[each]
        self._works[name] = work
        work.begin(doing)

    def get(self, name: str) -> Work | None:
        """The work of this name, if it goes on or ended not long ago."""
        return self._works.get(name)

    def forget(self, name: str) -> None:
        """Tell of it no more."""
        self._works.pop(name, None)

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*(work.stop() for work in self._works.values()))
