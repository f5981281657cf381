"""What a dialect hands in: its routes, each with the role it takes, and the shape of its errors."""

import importlib
import pkgutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from starlette.datastructures import QueryParams
from starlette.responses import Response

from freehold.core.errors import FreeholdError

if TYPE_CHECKING:
    from freehold.serving.batches import Kind
    from freehold.serving.desk import Desk

Role = Literal["public", "read", "infer", "manage", "admin"]


class Incoming(NamedTuple):
    """A request whose origin, size and form are checked."""

    path: Mapping[str, str]
    """Parameters of the route's path, percent-decoded."""
    query: QueryParams
    headers: Mapping[str, str]
    body: bytes
    gone: Callable[[], Awaitable[None]]
    """Returns when the client has left."""
    chunks: Callable[[], AsyncGenerator[bytes, None]]
    """The body in pieces, for a route that takes it as it comes; of no size that was checked."""
    url: str
    """Its address as the client wrote it, without a query."""


Handler = Callable[[Incoming, "Desk"], Awaitable[Response]]


Form = Literal["none", "json", "any", "chunks"]
"""What a route takes: no body; one that says it is JSON; one that is JSON whatever `curl -d` calls it; any, in pieces.

A browser asks a site before it sends JSON there for another, but not before it sends a form: "any" relies on the check
of origins alone.
"""


class Route(NamedTuple):
    """One method of one path. With no form given, POST and PUT take JSON and the others nothing."""

    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE"]
    path: str
    role: Role
    handler: Handler
    form: Form | None = None
    body: Any = None
    """The type of the JSON that it takes, for its documentation; a union where several are taken."""

    @property
    def takes(self) -> Form:
        """The form of its bodies."""
        return self.form or ("json" if self.method in ("POST", "PUT") else "none")


class Dialect(NamedTuple):
    """One vendor's wire format."""

    name: str
    mounts: tuple[str, ...]
    """Prefixes under which every route is served."""
    routes: tuple[Route, ...]
    error: Callable[[FreeholdError], Response]
    claims: Callable[[Mapping[str, str]], bool] | None = None
    """Whether a request for a path that others have too is for this dialect, by its headers; None: if for no other."""
    batches: tuple["Kind", ...] = ()
    """Batches of requests, as this vendor writes them."""


def installed_dialects() -> list[Dialect]:
    """The dialects that are there: each folder of `freehold.dialects` whose `routes` module holds a DIALECT."""
    package = importlib.import_module("freehold.dialects")
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.ispkg)
    return [importlib.import_module(f"freehold.dialects.{name}.routes").DIALECT for name in names]
