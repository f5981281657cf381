"""The pool: finds or starts the worker of a model, keeps it for a while, makes room by ending idle ones."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from freehold.core.digest import Digest
from freehold.core.errors import Busy, NotEnoughMemory, WorkerFailed
from freehold.core.request import FOREVER
from freehold.core.settings import Settings
from freehold.engines.base import Engine, Fit, ModelFile, Worker

_SWEEP = 5.0
"""Seconds between looks for idle workers."""
_IN_USE = 5
"""Seconds after which a model that is in use may be idle."""
_LESS = (
    "Lower FREEHOLD_CONTEXT_LENGTH or FREEHOLD_PARALLEL, raise FREEHOLD_MEMORY if it is set, or take a smaller model"
)
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

    def __init__(self, key: Key, model: ModelFile, worker: Worker, lease: Lease, settings: Settings, fit: Fit) -> None:
        self.key = key
        self.model = model
        self.worker = worker
        self.lease = lease
        self.needed = fit.needed
        """Bytes that it was expected to take."""
        self.places = settings.parallel
        """Requests that it answers at the same time."""
        self.users = 0
        self.served = 0
        self.answered = False
        """Whether a request ended and it lived."""
        self.last_used = time.monotonic()
        self.keep_alive = settings.keep_alive

    @property
    def left(self) -> float:
        """Seconds until it is ended if nobody asks for it."""
        return self.keep_alive if self.users else self.keep_alive - (time.monotonic() - self.last_used)


def _worth(held: Held) -> tuple[bool, float]:
    """What is ended first has least of it: those that are to stay for good go after the others."""
    return held.keep_alive >= FOREVER, held.last_used


class Loading:
    """A model that is being loaded."""

    def __init__(self, model: ModelFile) -> None:
        self.model = model
        self.since = time.monotonic()
        self.part = 0.0
        """How much of it is, from 0 to 1; 0 while it waits for another."""

    def told(self, part: float) -> None:
        """It is so far."""
        self.part = part


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
        self._loading: dict[Key, Loading] = {}
        self.pinned: frozenset[Digest] = frozenset()
        """Models whose workers are not ended for others, or for want of work."""
        self._start_lock = asyncio.Lock()
        self._deaths: dict[Key, deque[float]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._look = asyncio.Event()

    @property
    def workers(self) -> list[Held]:
        """Those that run now."""
        return [held for held in self._held.values() if held.worker.alive]

    @property
    def loading(self) -> list[tuple[Key, Loading]]:
        """Models that will be here soon."""
        return list(self._loading.items())

    def places(self, key: Key) -> int:
        """Requests that the workers of a model answer at the same time, whatever their context and adapters.

        Where there is none: as many as a new one would.
        """
        key = key._replace(context=0, adapters=frozenset())
        alike = (held for held in self.workers if held.key._replace(context=0, adapters=frozenset()) == key)
        return max((held.places for held in alike), default=self._settings.parallel)

    def pin(self, digests: Iterable[Digest]) -> None:
        """Have these models stay, and no others."""
        self.pinned = frozenset(digests)
        self._look.set()

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on; workers that run stay as they were started."""
        for held in self._held.values():
            if held.keep_alive == self._settings.keep_alive:
                held.keep_alive = settings.keep_alive
        self._settings = settings
        self._look.set()

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

    def file(self, key: Key) -> ModelFile | None:
        """What a worker for this key has loaded, if one runs."""
        return next((held.model for held in self.workers if held.key == key), None)

    def choices(self, key: Key) -> dict[str, Path]:
        """The adapters that the workers of a model hold now, so that another one can hold them too.

        Blocks. One that was removed from the store meanwhile could not be loaded again.
        """
        held = (each.model.choices for each in self.workers if each.key[:2] == key[:2])
        return {name: path for choices in held for name, path in choices.items() if path.exists()}

    def release(self, digest: Digest) -> int:
        """End the workers of one model as soon as nobody uses them. Returns how many there are."""
        chosen = [held for held in self._held.values() if held.key.digest == digest]
        for held in chosen:
            held.keep_alive = 0.0
        self._look.set()
        return len(chosen)

    async def stop(self, digest: Digest | None = None) -> int:
        """End the workers of one model, or all; the requests they hold fail. Returns how many there were.

        Those that are being loaded are not any more.
        """
        loading = [task for key, task in self._starts.items() if digest in (None, key.digest)]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        chosen = [held for held in self._held.values() if digest in (None, held.key.digest)]
        for held in chosen:
            await self._end(held)
        return len(chosen) + sum(task.cancelled() for task in loading)

    async def close(self) -> None:
        """End everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self.stop()

    async def _find_or_start(
        self, key: Key, model: ModelFile, lease: Callable[[], AbstractContextManager[object]]
    ) -> Held:
        serving = [held for held in self._held.values() if held.key.serves(key)]
        held = next((held for held in serving if held.worker.alive), None)
        if held is not None:
            return held
        for dead in serving:
            if self._held.get(dead.key) is dead:  # nobody else has ended it meanwhile
                self._count_death(dead)
                await self._end(dead)
        task = next((task for started, task in self._starts.items() if started.serves(key)), None)
        if task is None:
            self._check_deaths(key, model)
            self._loading[key] = Loading(model)
            task = self._starts[key] = asyncio.create_task(self._start(key, model, lease))
            task.add_done_callback(lambda done: self._start_done(key, done))
        await asyncio.wait([task])  # a client that leaves while the model loads does not stop the load for others
        if task.cancelled():
            raise WorkerFailed(f"{model.label} was stopped while it was loaded", "Ask again")
        return task.result()

    def _start_done(self, key: Key, task: asyncio.Task[Held]) -> None:
        self._starts.pop(key, None)
        self._loading.pop(key, None)
        if not task.cancelled():
            task.exception()  # those who waited have it; if all left, nobody is to be warned

    async def _start(self, key: Key, model: ModelFile, lease: Callable[[], AbstractContextManager[object]]) -> Held:
        async with self._start_lock:
            leased = Lease(lease())
            settings = self._settings
            try:
                await self._replace(key)
                fit = await self._make_room(model)
                worker = await self._engine.start(model, settings, self._loading[key].told)
            except BaseException:
                leased.end()
                raise
            held = self._held[key] = Held(key, model, worker, leased, settings, fit)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        return held

    async def _replace(self, key: Key) -> None:
        """End the idle workers that one for `key` will stand in for."""
        for held in list(self._held.values()):
            if key.serves(held.key) and not held.users:
                await self._end(held)

    async def _make_room(self, model: ModelFile) -> Fit:
        """What it takes, once that is free: idle workers are ended for it, the one that was used longest ago first."""
        while not self._fits(fit := self._engine.fits(model, self._settings)):
            if idle := self._ended_when_idle():
                await self._end(min(idle, key=_worth))
            elif self._held and await self._make_way():
                continue
            elif any(held.users for held in self._held.values()):
                said = f"{self._shortage(fit, model)} and all loaded models are in use"
                raise Busy(said, "Try again later", retry_after=_IN_USE)
            else:
                raise NotEnoughMemory(self._shortage(fit, model), _LESS)
        return fit

    def _fits(self, fit: Fit) -> bool:
        return fit.ok and (not self._settings.memory or self._taken + fit.needed <= self._settings.memory)

    @property
    def _taken(self) -> int:
        """Bytes of what is loaded."""
        return sum(held.needed for held in self._held.values())

    def _shortage(self, fit: Fit, model: ModelFile) -> str:
        """Why a model cannot be loaded, in numbers."""
        if not fit.ok:
            return fit.shortage(model.label)
        others = f", of which others take {self._taken >> 20}" if self._taken else ""
        return (
            f"{model.label} needs {fit.needed >> 20} MiB and models may take {self._settings.memory >> 20} MiB{others}"
        )

    async def _end(self, held: Held) -> None:
        if self._held.get(held.key) is held:
            del self._held[held.key]
        try:
            await held.worker.stop()
        finally:
            held.lease.end()

    async def _sweep(self) -> None:
        while True:
            soonest = min((held.left for held in self._ended_when_idle()), default=_SWEEP)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_SWEEP, max(0.05, soonest))):
                    await self._look.wait()
            self._look.clear()
            for held in list(self._held.values()):
                if not held.users and not held.worker.alive:
                    await self._end(held)
            for held in self._ended_when_idle():
                if held.left <= 0:
                    if self._before_end is not None:
                        await self._before_end(held)
                    if not held.users:
                        await self._end(held)
            await self._shrink()

    def _ended_when_idle(self) -> list[Held]:
        return [held for held in self._held.values() if not held.users and held.key.digest not in self.pinned]

    async def _shrink(self) -> None:
        """End idle workers that are too many since the settings allow for less memory."""
        while self._settings.memory and self._taken > self._settings.memory and (idle := self._ended_when_idle()):
            await self._end(min(idle, key=_worth))

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
