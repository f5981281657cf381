"""The server process: binds, says where it is, serves until told to stop, and leaves nothing running."""

import asyncio
import errno
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from freehold.core.errors import BadInput, Conflict
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.serving.protocol import DeadlineProtocol
from freehold.serving.starter import ensure_starter
from freehold.serving.state import ServerState, forget, running
from freehold.store import Store

if TYPE_CHECKING:
    from starlette.applications import Starlette

DRAIN_SECONDS = 10
"""For which running answers may go on after the server was told to stop."""


def serve(settings: Settings, store: Store, on_ready: Callable[[ServerState], None] = lambda state: None) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once, when requests are answered.

    Raises BadInput for a host that is not loopback (no keys exist), Conflict when the port is taken.
    """
    _require_loopback(settings.host)
    _require_alone(settings)
    ensure_starter(store)
    app = create_app(settings, store)
    with _bound(settings) as bound:
        host, port = bound.getsockname()[:2]
        server = _Server(app, ServerState.here(host, port), settings, on_ready)
        try:
            server.run(sockets=[bound])
        finally:
            forget(settings)


def _require_loopback(host: str) -> None:
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BadInput(
            f"{host} can be reached from other machines and no keys exist", "Serve on 127.0.0.1 (--host 127.0.0.1)"
        )


def _require_alone(settings: Settings) -> None:
    other = running(settings)
    if other is not None:
        raise Conflict(
            f"a server for {settings.home} already runs at {other.url} (pid {other.pid})",
            f"Use it, or stop it with 'kill {other.pid}'",
        )


def _bound(settings: Settings) -> socket.socket:
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle off only where the protocol is named; left on, each answer waits 40 ms for an acknowledgement
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, settings.port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            remedy = (
                "Stop the program that uses it, or choose another with --port or FREEHOLD_PORT (0 takes a free one)"
            )
            raise Conflict(f"port {settings.port} on {host} is taken", remedy) from error
        raise BadInput(f"cannot listen on {host} port {settings.port}: {error.strerror}", "Choose another") from error
    return bound


class _Server(uvicorn.Server):
    """uvicorn with deadlines for heads, a record of where it listens, and a word when it is ready."""

    def __init__(
        self, app: "Starlette", state: ServerState, settings: Settings, on_ready: Callable[[ServerState], None]
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
                timeout_keep_alive=30,
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
        self._state.record(self._settings)
        await asyncio.to_thread(self._on_ready, self._state)
