"""The application: routes with roles, the door before them, errors in the shape that each dialect's clients read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.core.errors import FreeholdError, NotFound, TooLarge, WrongMethod
from freehold.core.request import Request as CoreRequest
from freehold.core.settings import Settings
from freehold.engines.base import Engine
from freehold.guard import caller, origin
from freehold.serving.desk import Desk
from freehold.serving.http import departure, read_body, read_chunks, require_json, require_plain
from freehold.serving.listening import USUAL
from freehold.serving.own import OWN
from freehold.serving.routes import Dialect, Form, Incoming, Role, Route, installed_dialects
from freehold.serving.sole import Sole
from freehold.store import Store

_DIALECT = "freehold.dialect"
"""Where a request's scope says which dialect answers it."""
_TOOL = "freehold.tool"
"""Where it says on which tool's usual port the request came in."""
MAX_HEAD = 32 << 10
"""Bytes of a request's target and headers. h11 bounds only what has not arrived whole."""


class Mount(NamedTuple):
    """A dialect under one of its prefixes."""

    prefix: str
    dialect: Dialect


class Declared(StarletteRoute):
    """A route whose role is declared, and the form of its bodies."""

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], route: Route) -> None:
        super().__init__(path, endpoint, methods=[route.method])
        self.role: Role = route.role
        self.takes: Form = route.takes
        self._literal = "{" not in path

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette has it. Each request asks some hundred routes: most have one path, which is soon compared."""
        if self._literal and scope["type"] == "http" and scope["path"] != self.path and not scope.get("root_path"):
            return Match.NONE, {}
        return super().matches(scope)


def _nobody(origin: str) -> bool:
    return False


def create_app(
    settings: Settings,
    store: Store,
    *,
    engine: Engine | None = None,
    dialects: Sequence[Dialect] | None = None,
    sole: Sole | None = None,
    pages: Callable[[str], bool] = _nobody,
) -> Starlette:
    """The application. Raises FreeholdError if a route has no role.

    With a `sole` model it is all that is served, by `dialects` alone. `pages` says which pages may call, by origin.
    """
    desk = Desk(settings, store, engine or _default_engine(), sole)
    known = dialects or installed_dialects()
    spoken = known if sole else (OWN, *known)
    mounts = [Mount(prefix, dialect) for dialect in spoken for prefix in dialect.mounts]
    desk.batches.kinds = {kind.name: kind for dialect in spoken for kind in dialect.batches}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        desk.scrub.start()
        desk.batches.start()
        desk.tunings.start()
        desk.pins.start()
        loading = asyncio.create_task(_load(desk, sole)) if sole else None
        yield
        if loading is not None:
            loading.cancel()
        await desk.close()

    async def failed(request: Request, error: Exception) -> Response:
        return _dialect_of(request.scope, request.headers, mounts).error(_as_ours(error))

    app = Starlette(
        routes=list(_routes(mounts, desk)),
        exception_handlers={HTTPException: failed, FreeholdError: failed, Exception: failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    tools = {USUAL[tool]: tool for tool in settings.also if tool in USUAL}
    app.add_middleware(Door, allowed=lambda: _allowed(desk.settings), mounts=mounts, tools=tools, pages=pages)
    app.state.desk = desk
    check_declared(app)
    return app


async def _load(desk: Desk, sole: Sole) -> None:
    """Have the one model ready before the first request."""
    try:
        sole.properties = await desk.ask(CoreRequest(model=sole.label), "properties")
    except FreeholdError as error:
        sole.failure = error
        sole.on_failure(error)
        return
    sole.loaded = True


def check_declared(app: Starlette) -> None:
    """Raises FreeholdError when the application has a route that no registry declared."""
    for route in app.routes:
        if not isinstance(route, Declared):
            raise FreeholdError(f"the route {route!r} declares no role", "Add it through serving.routes.Route")


def _default_engine() -> Engine:
    from freehold.serving.engine import Lazy

    return Lazy()


def _routes(mounts: Sequence[Mount], desk: Desk) -> Iterator[Declared]:
    """A route for each path and method; where several dialects have it, the one that claims a request answers it."""
    shared: dict[tuple[str, str], list[tuple[Dialect, Route]]] = {}
    for mount in mounts:
        for route in mount.dialect.routes:
            shared.setdefault((mount.prefix + route.path, route.method), []).append((mount.dialect, route))
    for (path, _), found in shared.items():
        if len({(route.role, route.takes) for _, route in found}) > 1:
            raise FreeholdError(f"the dialects that share {path} differ in its role or bodies", "Make them agree")
        yield _declared(path, found, desk)


def _claimed(dialects: Sequence[Dialect], headers: Mapping[str, str], tool: str = "") -> Dialect:
    """The dialect that a request is for: that of the tool on whose port it came, the one that claims it by its
    headers, else the first that claims none.
    """
    named = next((dialect for dialect in dialects if tool and dialect.name == tool), None)
    if named is not None:
        return named
    claiming = (dialect for dialect in dialects if dialect.claims is not None and dialect.claims(headers))
    plain = (dialect for dialect in dialects if dialect.claims is None)
    return next(claiming, None) or next(plain, dialects[0])


def _declared(path: str, found: Sequence[tuple[Dialect, Route]], desk: Desk) -> Declared:
    async def endpoint(request: Request) -> Response:
        dialect = _claimed([dialect for dialect, _ in found], request.headers, request.scope.get(_TOOL, ""))
        request.scope[_DIALECT] = dialect
        route = next(route for owner, route in found if owner is dialect)
        caller.asking.set(caller.of(request.headers, request.client.host if request.client else ""))
        incoming = Incoming(
            request.path_params,
            request.query_params,
            request.headers,
            await _body(request, route, desk.settings.max_body),
            departure(request.receive),
            partial(read_chunks, request),
            str(request.url.replace(query=None)),
        )
        return await route.handler(incoming, desk)

    return Declared(path, endpoint, found[0][1])


async def _body(request: Request, route: Route, limit: int) -> bytes:
    if route.takes == "chunks":
        require_plain(request)  # before its handler looks for anything
    if route.takes in ("none", "chunks"):
        return b""
    require_json(request, curl=route.takes == "any")
    return await read_body(request, limit)


def _as_ours(error: Exception) -> FreeholdError:
    if isinstance(error, FreeholdError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 405:
        return WrongMethod("this route does not answer to that method", "See the documentation of the API")
    if isinstance(error, HTTPException):
        return NotFound("there is no such route", "See the documentation of the API")
    return FreeholdError("the server failed at this request", "Its log says why; please report it")


def _dialect_of(scope: Scope, headers: Mapping[str, str], mounts: Sequence[Mount]) -> Dialect:
    """The dialect whose errors a client reads: of its route, else of a mount near its path, else by its headers."""
    if _DIALECT in scope:
        answering: Dialect = scope[_DIALECT]
        return answering
    path = scope["path"]
    near = [mount for mount in mounts if mount.prefix and (path + "/").startswith(mount.prefix + "/")]
    if not near:
        rooted = [mount.dialect for mount in mounts if not mount.prefix]
        first = path.split("/")[1]
        owner = next((d for d in rooted if first and first in {route.path.split("/")[1] for route in d.routes}), None)
        mounted = [mount.dialect for mount in mounts if mount.dialect not in rooted]
        return owner or _claimed(mounted or rooted, headers)
    prefix = max((mount.prefix for mount in near), key=len)
    nearest = [mount.dialect for mount in near if mount.prefix == prefix]
    having = [dialect for dialect in nearest if path.removeprefix(prefix) in {route.path for route in dialect.routes}]
    return _claimed(having or nearest, headers)


def _allowed(settings: Settings) -> frozenset[str]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return origin.LOOPBACK | {name.lower() for name in (*settings.allowed_hosts, host)}


def _check_head(scope: Scope) -> None:
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(k) + len(v) for k, v in scope["headers"])
    if size > MAX_HEAD:
        raise TooLarge(f"the request's head is larger than {MAX_HEAD} bytes", "Send fewer or shorter headers")


class Door:
    """Turns away, before any route is looked for, what a foreign page sends through its user's browser."""

    def __init__(
        self,
        app: ASGIApp,
        allowed: Callable[[], frozenset[str]],
        mounts: Sequence[Mount],
        tools: Mapping[int, str],
        pages: Callable[[str], bool],
    ) -> None:
        self._app = app
        self._tools = tools
        self._pages = pages
        self._allowed = allowed
        self._mounts = mounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        port = (scope.get("server") or ("", 0))[1]
        if port in self._tools:
            scope[_TOOL] = self._tools[port]
        page, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if page is not None and self._pages(page):
            page = site = None
        try:
            _check_head(scope)
            origin.check(request.headers.get("host", ""), page, site, self._allowed())
        except FreeholdError as error:
            await _dialect_of(scope, request.headers, self._mounts).error(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)
