"""The server process: binds, says where it is, serves until told to stop, and leaves nothing running."""

import asyncio
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from freehold.core.errors import Conflict, FreeholdError
from freehold.core.settings import Settings
from freehold.serving import listening
from freehold.serving.app import create_app
from freehold.serving.desk import Desk
from freehold.serving.protocol import DeadlineProtocol
from freehold.serving.reload import Reload
from freehold.serving.starter import ensure_starter
from freehold.serving.state import ServerState, forget, running
from freehold.store import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_CUT_SECONDS = 2.0
"""In which clients must have read the end of their answers, once these had to end."""
Ready = Callable[[ServerState], None]


def serve(
    settings: Settings,
    store: Store,
    on_ready: Ready = lambda state: None,
    read: Callable[[], Settings] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once, when requests are answered.

    With `read` the settings are read again at SIGHUP, and when config.toml changes.

    Raises BadInput for a host that is not loopback (no keys exist), Conflict when a port is taken.
    """
    listening.check(settings)
    _require_alone(settings)
    ensure_starter(store)
    app = create_app(settings, store)
    with listening.sockets(settings) as bound:
        host, port = bound[0].getsockname()[:2]
        server = _Server(app, app.state.desk, ServerState.here(host, port), settings, on_ready, read)
        try:
            server.run(sockets=bound)
        finally:
            forget(settings)


def _require_alone(settings: Settings) -> None:
    other = running(settings)
    if other is not None:
        raise Conflict(
            f"a server for {settings.home} already runs at {other.url} (pid {other.pid})",
            f"Use it, or stop it with 'kill {other.pid}'",
        )


def serve_unrecorded(
    app: "ASGIApp", desk: Desk, state: ServerState, bound: list[socket.socket], on_ready: Ready
) -> None:
    """Serve an application until told to stop, beside the server of the home: nobody takes it for that one."""
    _Server(app, desk, state, None, on_ready).run(sockets=bound)


class _Server(uvicorn.Server):
    """uvicorn with deadlines for heads, a record of where it listens, and a word when it is ready."""

    def __init__(
        self,
        app: "ASGIApp",
        desk: Desk,
        state: ServerState,
        settings: Settings | None,
        on_ready: Ready,
        read: Callable[[], Settings] | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=DeadlineProtocol,
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=True,
                timeout_keep_alive=20,
                h11_max_incomplete_event_size=32 << 10,
                proxy_headers=False,
            )
        )
        self._state = state
        self._settings = settings
        self._on_ready = on_ready
        self._desk = desk
        self._reload = Reload(desk, read) if read is not None else None
        self._failure: FreeholdError | OSError | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, as uvicorn does, but do not die of it afterwards: there is a record to remove."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop. Raises what kept it from being found, once all has ended that was begun."""
        super().run(sockets)
        if self._failure is not None:
            raise self._failure

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, write server.json, tell."""
        await super().startup(sockets)
        try:
            await self._tell()
        except (FreeholdError, OSError) as error:
            self._failure, self.should_exit = error, True

    async def _tell(self) -> None:
        if self._settings is not None:
            self._state.record(self._settings)
        if self._reload is not None:
            self._reload.start()
            self._heed_hangups(self._reload.wake)
        await asyncio.to_thread(self._on_ready, self._state)

    def _heed_hangups(self, reload: Callable[[], None]) -> None:
        """At SIGHUP read the settings again; but stop when it tells that the terminal of this server is gone."""
        if threading.current_thread() is not threading.main_thread():
            return
        ends_with_terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()

        def heed() -> None:
            if ends_with_terminal and not _has_terminal():
                self.handle_exit(signal.SIGTERM, None)
            else:
                reload()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heed)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing more, and let what runs end in time."""
        if self._reload is not None:
            await self._reload.stop()
        self.config.timeout_graceful_shutdown = math.ceil(self._desk.drain() + _CUT_SECONDS)
        await super().shutdown(sockets)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
