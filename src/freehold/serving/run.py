"""The server process: binds, says where it is, serves until told to stop, and leaves nothing running."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from freehold.core.errors import Conflict
from freehold.core.settings import Settings
from freehold.serving import listening
from freehold.serving.app import create_app
from freehold.serving.protocol import DeadlineProtocol
from freehold.serving.starter import ensure_starter
from freehold.serving.state import ServerState, forget, running
from freehold.store import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DRAIN_SECONDS = 10
"""For which running answers may go on after the server was told to stop."""


Ready = Callable[[ServerState], None]


def serve(settings: Settings, store: Store, on_ready: Ready = lambda state: None) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once, when requests are answered.

    Raises BadInput for a host that is not loopback (no keys exist), Conflict when a port is taken.
    """
    listening.check(settings)
    _require_alone(settings)
    ensure_starter(store)
    app = create_app(settings, store)
    with listening.sockets(settings) as bound:
        host, port = bound[0].getsockname()[:2]
        server = _Server(app, ServerState.here(host, port), settings, on_ready)
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


def serve_unrecorded(app: "ASGIApp", state: ServerState, bound: list[socket.socket], on_ready: Ready) -> None:
    """Serve an application until told to stop, beside the server of the home: nobody takes it for that one."""
    _Server(app, state, None, on_ready).run(sockets=bound)


class _Server(uvicorn.Server):
    """uvicorn with deadlines for heads, a record of where it listens, and a word when it is ready."""

    def __init__(self, app: "ASGIApp", state: ServerState, settings: Settings | None, on_ready: Ready) -> None:
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
                timeout_graceful_shutdown=DRAIN_SECONDS,
                h11_max_incomplete_event_size=32 << 10,
                proxy_headers=False,
            )
        )
        self._state = state
        self._settings = settings
        self._on_ready = on_ready

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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, write server.json, tell."""
        await super().startup(sockets)
        if self._settings is not None:
            self._state.record(self._settings)
        await asyncio.to_thread(self._on_ready, self._state)
