"""What a dialect's routes take, as OpenAPI 3.1 makes it: out of the same types that decode requests.

https://spec.openapis.org/oas/v3.1.0
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from freehold import __version__
from freehold.serving.routes import Dialect, Route

_REFERENCE = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_SAID = re.compile(r"^(?:GET|HEAD|POST|PUT|DELETE) \S+: ")
"""How a handler's docstring begins: with its route."""


def document(dialect: Dialect) -> dict[str, Any]:
    """The OpenAPI document of a dialect under the first of its mounts."""
    routes = described(dialect)
    bodies = {route: route.body for route in routes if route.body is not None}
    schemas, components = msgspec.json.schema_components(list(bodies.values()), ref_template=_REFERENCE)
    told = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        place = dialect.mounts[0] + _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(place, {})[route.method.lower()] = _operation(route, told.get(route))
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Freehold: {dialect.name}", "version": __version__},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def described(dialect: Dialect) -> list[Route]:
    """The routes that do something. One whose handler has no words to say for itself refuses what is not here."""
    return [route for route in dialect.routes if inspect.getdoc(route.handler)]


def summary(route: Route) -> str:
    """What a route is for, as its handler's docstring says."""
    first = (inspect.getdoc(route.handler) or "").partition("\n\n")[0].replace("\n", " ")
    return _SAID.sub("", first).strip() or f"{route.method} {route.path}"


def _operation(route: Route, schema: dict[str, Any] | None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary(route),
        "tags": [route.role],
        "parameters": list(_parameters(route)),
        "responses": {"200": {"description": "The answer"}, "default": {"description": "An error in this API's shape"}},
    }
    if schema is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name, _ in _PARAMETER.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
