"""The application: routes with roles, the door before them, errors in the shape that each dialect's clients read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.core.errors import FreeholdError, NotFound, TooLarge, WrongMethod
from freehold.core.settings import Settings
from freehold.engines.base import Engine
from freehold.guard import origin
from freehold.serving.desk import Desk
from freehold.serving.http import departure, read_body, require_json
from freehold.serving.own import OWN
from freehold.serving.routes import Dialect, Incoming, Role, Route, installed_dialects
from freehold.store import Store

MAX_HEAD = 32 << 10
"""Bytes of a request's target and headers. h11 bounds only what has not arrived whole."""


class Mount(NamedTuple):
    """A dialect under one of its prefixes."""

    prefix: str
    dialect: Dialect


class Declared(StarletteRoute):
    """A route whose role is declared."""

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], method: str, role: Role) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.role: Role = role


def create_app(
    settings: Settings, store: Store, *, engine: Engine | None = None, dialects: Sequence[Dialect] | None = None
) -> Starlette:
    """The application. Raises FreeholdError if a route has no role."""
    desk = Desk(settings, store, engine or _default_engine())
    mounts = [
        Mount(prefix, dialect) for dialect in (OWN, *(dialects or installed_dialects())) for prefix in dialect.mounts
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        desk.scrub.start()
        yield
        await asyncio.to_thread(desk.scrub.stop)
        await desk.pool.close()

    async def failed(request: Request, error: Exception) -> Response:
        return _dialect_of(request.scope["path"], mounts).error(_as_ours(error))

    app = Starlette(
        routes=[_declared(mount, route, desk) for mount in mounts for route in mount.dialect.routes],
        exception_handlers={HTTPException: failed, FreeholdError: failed, Exception: failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.add_middleware(Door, allowed=_allowed(settings), mounts=mounts)
    app.state.desk = desk
    check_declared(app)
    return app


def check_declared(app: Starlette) -> None:
    """Raises FreeholdError when the application has a route that no registry declared."""
    for route in app.routes:
        if not isinstance(route, Declared):
            raise FreeholdError(f"the route {route!r} declares no role", "Add it through serving.routes.Route")


def _default_engine() -> Engine:
    from freehold.serving.engine import Lazy

    return Lazy()


def _declared(mount: Mount, route: Route, desk: Desk) -> Declared:
    async def endpoint(request: Request) -> Response:
        body = b""
        if route.method in ("POST", "PUT"):
            require_json(request)
            body = await read_body(request, desk.settings.max_body)
        incoming = Incoming(
            request.path_params, request.query_params, request.headers, body, departure(request.receive)
        )
        return await route.handler(incoming, desk)

    return Declared(mount.prefix + route.path, endpoint, route.method, route.role)


def _as_ours(error: Exception) -> FreeholdError:
    if isinstance(error, FreeholdError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 405:
        return WrongMethod("this route does not answer to that method", "See the documentation of the API")
    if isinstance(error, HTTPException):
        return NotFound("there is no such route", "See the documentation of the API")
    return FreeholdError("the server failed at this request", "Its log says why; please report it")


def _dialect_of(path: str, mounts: Sequence[Mount]) -> Dialect:
    """The dialect whose errors a client that asks for `path` reads; of those mounted nowhere near, the first."""
    near = [mount for mount in mounts if mount.prefix and (path + "/").startswith(mount.prefix + "/")]
    if near:
        return max(near, key=lambda mount: len(mount.prefix)).dialect
    return OWN if path.startswith(("/freehold/", "/health")) else next(m.dialect for m in mounts if m.prefix)


def _allowed(settings: Settings) -> frozenset[str]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return origin.LOOPBACK | {name.lower() for name in (*settings.allowed_hosts, host)}


def _check_head(scope: Scope) -> None:
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(k) + len(v) for k, v in scope["headers"])
    if size > MAX_HEAD:
        raise TooLarge(f"the request's head is larger than {MAX_HEAD} bytes", "Send fewer or shorter headers")


class Door:
    """Turns away, before any route is looked for, what a foreign page sends through its user's browser."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str], mounts: Sequence[Mount]) -> None:
        self._app = app
        self._allowed = allowed
        self._mounts = mounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            _check_head(scope)
            origin.check(
                request.headers.get("host", ""),
                request.headers.get("origin"),
                request.headers.get("sec-fetch-site"),
                self._allowed,
            )
        except FreeholdError as error:
            await _dialect_of(scope["path"], self._mounts).error(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)
