"""Where the server of a home listens, for those who look for it, and what it tells them: without its own imports."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from freehold.core.settings import Settings
from freehold.formats.atomic import replacing
from freehold.store import processes


class ServerState(msgspec.Struct, frozen=True):
    """Where the server of a home listens; the content of server.json."""

    pid: int
    start: str
    """When the process was born, in its kernel's terms: pids are used again."""
    host: str
    port: int

    @classmethod
    def here(cls, host: str, port: int) -> "ServerState":
        """This process, listening there."""
        pid, start = processes.me()
        return cls(pid, start, host, port)

    @property
    def url(self) -> str:
        """Its base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def record(self, settings: Settings) -> None:
        """Let others find it. Raises DiskFull."""
        with replacing(_file(settings)) as temporary:
            temporary.write_bytes(msgspec.json.encode(self))


class WorkerInfo(msgspec.Struct):
    """One running worker, as `freehold ps` shows it."""

    model: str
    digest: str
    pid: int
    task: str
    memory: int
    """Resident bytes."""
    context_length: int
    busy: int
    """Requests in it now."""
    served: int
    pinned: bool = False


class LoadInfo(msgspec.Struct):
    """A model that is being loaded."""

    model: str
    digest: str
    part: float
    """About how much of it is in memory, from 0 to 1."""
    seconds: float
    """Since it was asked for."""


class Workers(msgspec.Struct):
    """Those that run now, and those that will soon."""

    workers: list[WorkerInfo]
    loading: list[LoadInfo] = []


class Stopped(msgspec.Struct):
    """How many workers an order stopped."""

    stopped: int


def running(settings: Settings) -> ServerState | None:
    """The server that serves this home now."""
    try:
        state = msgspec.json.decode(_file(settings).read_bytes(), type=ServerState)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return state if processes.alive(state.pid, state.start) else None


def forget(settings: Settings) -> None:
    """Remove the record of this process, or of one that is gone; never that of another server."""
    state = running(settings)
    if state is None or state.pid == os.getpid():
        with suppress(OSError):  # one that stays names a process that is gone, and counts for nothing
            _file(settings).unlink(missing_ok=True)


def _file(settings: Settings) -> Path:
    return settings.home / "server.json"
