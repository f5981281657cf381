"""Pinned models: loaded when the server starts, loaded again when their worker died, and never ended for others."""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, FreeholdError, UnknownModel
from freehold.core.request import EmbedRequest, Request
from freehold.serving import abilities

if TYPE_CHECKING:
    from freehold.serving.desk import Desk

_LOOK = 10.0
"""Seconds between looks whether they are all there, and what their names mean now."""
_log = logging.getLogger("freehold.pinned")


class Pins:
    """Keeps the models that `settings.pinned` names."""

    def __init__(self, desk: "Desk") -> None:
        self._desk = desk
        self._task: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._found: dict[str, Digest] = {}
        """What the names mean."""
        self._said: dict[str, str] = {}
        """What was wrong with each name when it was last said."""

    @property
    def whole(self) -> bool:
        """Whether all of them are loaded, for text or for vectors."""
        loaded = {held.key.digest for held in self._desk.pool.workers}
        return len(self._found) == len(set(self._desk.settings.pinned)) and loaded.issuperset(self._found.values())

    def start(self) -> None:
        """Have them loaded, one after the other."""
        self._task = asyncio.create_task(self._keep())

    def wake(self) -> None:
        """Look now: the settings are others."""
        self._look.set()

    async def stop(self) -> None:
        """Load nothing more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        while True:
            await self._all()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK if self._desk.settings.pinned else None):
                    await self._look.wait()
            self._look.clear()

    async def _all(self) -> None:
        names = self._desk.settings.pinned
        found: dict[str, Digest] = {}
        for name in names:
            try:
                found[name] = await self._desk.digest(name)
            except FreeholdError as error:
                self._complain(name, error)
        self._found = found
        self._desk.pool.pin(found.values())
        for name, digest in found.items():
            if not any(held.key.digest == digest for held in self._desk.pool.workers):
                await self._load(name)

    async def _load(self, name: str) -> None:
        try:
            await self._desk.load(await self._request(name))
            self._said.pop(name, None)
        except FreeholdError as error:
            self._complain(name, error)

    async def _request(self, name: str) -> Request | EmbedRequest:
        """What has it loaded for what it can do."""
        with suppress(UnknownModel, BadModelFile):  # one of another tool is taken for text; the engine says what is bad
            entry = await self._desk.model(name)
            if (await asyncio.to_thread(abilities.of, self._desk.store, entry.manifest)).embedding:
                return EmbedRequest(model=name, inputs=("",))
        return Request(model=name)

    def _complain(self, name: str, error: FreeholdError) -> None:
        """Once, as long as it is the same that is wrong."""
        if self._said.get(name) != error.line():
            self._said[name] = error.line()
            _log.warning("%s is pinned and not loaded: %s", name, error.line())
