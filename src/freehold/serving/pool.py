"""The pool: finds or starts the worker of a model, keeps it for a while, makes room by ending idle ones."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from freehold.core.digest import Digest
from freehold.core.errors import Busy, NotEnoughMemory
from freehold.core.settings import Settings
from freehold.engines.base import Engine, ModelFile, Worker

_SWEEP = 5.0
"""Seconds between looks for idle workers."""
_MAX_DEATHS = 3
"""Deaths in a row, of workers that answered nothing, after which no other is started for a while."""
_DEATH_WINDOW = 60.0


class Key(NamedTuple):
    """What a worker was started for."""

    digest: Digest
    embedding: bool
    context: int = 0
    """Tokens of context that it has at least; 0 for as many as the settings or the model say."""
    adapters: frozenset[str] = frozenset()
    """Those that a request may name."""
    ranking: bool = False
    """Whether it scores documents for a query."""

    def serves(self, other: "Key") -> bool:
        """Whether a worker for this can do what is wanted of one for `other`."""
        same = self[:2] == other[:2] and self.ranking == other.ranking
        return same and self.context >= other.context and self.adapters >= other.adapters


class Lease:
    """A context manager entered in one task and left in another, which context variables inside it do not survive."""

    def __init__(self, inner: AbstractContextManager[object]) -> None:
        self._inner = inner
        self._context = contextvars.copy_context()
        self._context.run(inner.__enter__)

    def end(self) -> None:
        """Leave it."""
        self._context.run(self._inner.__exit__, None, None, None)


class Held:
    """A running worker, the blobs leased for it, and how it is used."""

    def __init__(self, key: Key, model: ModelFile, worker: Worker, lease: Lease, keep_alive: float) -> None:
        self.key = key
        self.model = model
        self.worker = worker
        self.lease = lease
        self.users = 0
        self.served = 0
        self.answered = False
        """Whether a request ended and it lived."""
        self.last_used = time.monotonic()
        self.keep_alive = keep_alive

    @property
    def left(self) -> float:
        """Seconds until it is ended if nobody asks for it."""
        return self.keep_alive if self.users else self.keep_alive - (time.monotonic() - self.last_used)


async def _nobody() -> bool:
    return False


BeforeEnd = Callable[[Held], Awaitable[None]]
"""Called before an idle worker is ended."""


class Pool:
    """Workers by model. One start at a time, since each start decides on the memory that the next will find."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        make_way: Callable[[], Awaitable[bool]] = _nobody,
        before_end: BeforeEnd | None = None,
    ) -> None:
        """`make_way` ends what can wait and uses workers meanwhile, and tells whether there was anything."""
        self._make_way = make_way
        self._engine = engine
        self._before_end = before_end
        self._settings = settings
        self._held: dict[Key, Held] = {}
        self._starts: dict[Key, asyncio.Task[Held]] = {}
        self._start_lock = asyncio.Lock()
        self._deaths: dict[Key, deque[float]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._look = asyncio.Event()

    @property
    def workers(self) -> list[Held]:
        """Those that run now."""
        return [held for held in self._held.values() if held.worker.alive]

    @asynccontextmanager
    async def worker(
        self,
        key: Key,
        model: ModelFile,
        lease: Callable[[], AbstractContextManager[object]],
        keep_alive: float | None = None,
    ) -> AsyncIterator[Worker]:
        """A worker of this model, not to be ended while inside. Raises what the engine raises when it starts one.

        It is kept for `keep_alive` seconds afterwards, or as long as the settings say.
        """
        held = await self._find_or_start(key, model, lease)
        held.users += 1
        held.keep_alive = self._settings.keep_alive if keep_alive is None else keep_alive
        try:
            yield held.worker
        finally:
            held.users -= 1
            held.served += 1
            held.answered |= held.worker.alive
            held.last_used = time.monotonic()
            self._look.set()

    def choices(self, key: Key) -> dict[str, Path]:
        """The adapters that the workers of a model hold now, so that another one can hold them too."""
        held = (each.model.choices for each in self.workers if each.key[:2] == key[:2])
        return {name: path for choices in held for name, path in choices.items()}

    def release(self, digest: Digest) -> int:
        """End the workers of one model as soon as nobody uses them. Returns how many there are."""
        chosen = [held for held in self._held.values() if held.key.digest == digest]
        for held in chosen:
            held.keep_alive = 0.0
        self._look.set()
        return len(chosen)

    async def stop(self, digest: Digest | None = None) -> int:
        """End the workers of one model, or all; the requests they hold fail. Returns how many there were."""
        chosen = [held for held in self._held.values() if digest in (None, held.key.digest)]
        for held in chosen:
            await self._end(held)
        return len(chosen)

    async def close(self) -> None:
        """End everything."""
        for task in (*self._starts.values(), *([self._sweeper] if self._sweeper else [])):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.stop()

    async def _find_or_start(
        self, key: Key, model: ModelFile, lease: Callable[[], AbstractContextManager[object]]
    ) -> Held:
        held = next((held for held in self._held.values() if held.key.serves(key)), None)
        if held is not None and held.worker.alive:
            return held
        if held is not None:
            self._count_death(held)
            await self._end(held)
        task = next((task for started, task in self._starts.items() if started.serves(key)), None)
        if task is None:
            self._check_deaths(key, model)
            task = self._starts[key] = asyncio.create_task(self._start(key, model, lease))
            task.add_done_callback(lambda done: self._start_done(key, done))
        # A client that leaves while the model loads does not stop the load for those who wait with it.
        return await asyncio.shield(task)

    def _start_done(self, key: Key, task: asyncio.Task[Held]) -> None:
        self._starts.pop(key, None)
        if not task.cancelled():
            task.exception()  # those who waited have it; if all left, nobody is to be warned

    async def _start(self, key: Key, model: ModelFile, lease: Callable[[], AbstractContextManager[object]]) -> Held:
        async with self._start_lock:
            leased = Lease(lease())
            try:
                await self._replace(key)
                await self._make_room(model)
                worker = await self._engine.start(model, self._settings)
            except BaseException:
                leased.end()
                raise
            held = self._held[key] = Held(key, model, worker, leased, self._settings.keep_alive)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        return held

    async def _replace(self, key: Key) -> None:
        """End the idle workers that one for `key` will stand in for."""
        for held in list(self._held.values()):
            if key.serves(held.key) and not held.users:
                await self._end(held)

    async def _make_room(self, model: ModelFile) -> None:
        while not (fit := self._engine.fits(model, self._settings)).ok:
            idle = [held for held in self._held.values() if not held.users]
            if idle:
                await self._end(min(idle, key=lambda held: held.last_used))
            elif self._held and await self._make_way():
                continue
            elif self._held:
                raise Busy(
                    f"{fit.shortage(model.label)} and all loaded models are in use", "Try again later", retry_after=5
                )
            else:
                remedy = "Lower FREEHOLD_CONTEXT_LENGTH or FREEHOLD_PARALLEL, or take a smaller quantisation"
                raise NotEnoughMemory(fit.shortage(model.label), remedy)

    async def _end(self, held: Held) -> None:
        if self._held.get(held.key) is held:
            del self._held[held.key]
        try:
            await held.worker.stop()
        finally:
            held.lease.end()

    async def _sweep(self) -> None:
        while True:
            soonest = min((held.left for held in self._held.values() if not held.users), default=_SWEEP)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_SWEEP, max(0.05, soonest))):
                    await self._look.wait()
            self._look.clear()
            for held in list(self._held.values()):
                if not held.users and (held.left <= 0 or not held.worker.alive):
                    if self._before_end is not None and held.worker.alive:
                        await self._before_end(held)
                    if not held.users:
                        await self._end(held)

    def _count_death(self, held: Held) -> None:
        deaths = self._deaths.setdefault(held.key, deque(maxlen=_MAX_DEATHS))
        if held.answered:  # whatever ended it, it is not the model
            deaths.clear()
        deaths.append(time.monotonic())

    def _check_deaths(self, key: Key, model: ModelFile) -> None:
        deaths = list(self._deaths.get(key, []))
        if len(deaths) == _MAX_DEATHS and time.monotonic() - deaths[0] < _DEATH_WINDOW:
            wait = int(_DEATH_WINDOW - (time.monotonic() - deaths[0])) + 1
            raise Busy(
                f"the worker of {model.label} died {_MAX_DEATHS} times within a minute",
                "Try again later; 'freehold fsck' checks the model",
                retry_after=wait,
            )
