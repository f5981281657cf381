"""Settings that change while the server runs: read again at SIGHUP, and when the file is another."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from freehold.core.errors import FreeholdError
from freehold.core.settings import FIXED, Settings
from freehold.serving.desk import Desk

_LOOK = 2.0
"""Seconds between looks at the file."""
_log = logging.getLogger("freehold.settings")
_Stamp = tuple[int, int, int]


class Reload:
    """Reads the settings by `read` and has the desk adopt them. Says in one line what came of it."""

    def __init__(self, desk: Desk, read: Callable[[], Settings]) -> None:
        self._desk = desk
        self._read = read
        self._file = desk.settings.home / "config.toml"
        self._stamp = _stamp(self._file)
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch the file."""
        self._task = asyncio.create_task(self._watch())

    def wake(self) -> None:
        """Read them again, whether the file is another or not."""
        self._wanted.set()

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._wanted.wait()
            stamp = _stamp(self._file)
            if self._wanted.is_set() or stamp != self._stamp:
                self._wanted.clear()
                self._stamp = stamp
                await self.now()

    async def now(self) -> None:
        """Read and adopt. What cannot be used leaves all as it was."""
        before = self._desk.settings
        try:
            found = await asyncio.to_thread(self._read)
        except FreeholdError as error:
            _log.warning("the settings stay as they were: %s", error.line())
            return
        changed = [name for name in Settings.__struct_fields__ if getattr(found, name) != getattr(before, name)]
        stay = [name for name in changed if name in FIXED]
        if stay:
            _log.warning("%s: takes effect when the server is started again", ", ".join(stay))
        live = [name for name in changed if name not in FIXED]
        if live:
            self._desk.adopt(msgspec.structs.replace(found, **{name: getattr(before, name) for name in FIXED}))
            _log.warning("settings in force: %s", ", ".join(f"{name} = {_shown(found, name)}" for name in live))


def _shown(settings: Settings, name: str) -> str:
    return msgspec.json.encode(getattr(settings, name)).decode()


def _stamp(path: Path) -> _Stamp | None:
    """What tells that a file is another one. None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
