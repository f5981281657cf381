"""/docs: what the server answers, as a page and as OpenAPI documents, made of the routes and their types."""

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

from starlette.responses import Response

from freehold.core.errors import NotFound
from freehold.serving import openapi
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.routes import Dialect, Incoming, Route, installed_dialects

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#222;background:#fff}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;"
    "border-bottom:1px solid #ddd}code{font:14px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}"
    "summary{cursor:pointer;padding:.25rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}td,th{border-color:#444}a{color:#8bf}}"
)
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
    "pattern": "matches {}",
}


async def page(incoming: Incoming, desk: Desk) -> Response:
    """GET /docs: what this server answers, for people."""
    return Response(_page(), media_type="text/html", headers=_HEADERS)


async def document(incoming: Incoming, desk: Desk) -> Response:
    """GET /docs/{dialect}.json: the same of one API for programs, as an OpenAPI document."""
    name = incoming.path["dialect"]
    found = next((dialect for dialect in _dialects() if dialect.name == name), None)
    if found is None:
        known = ", ".join(dialect.name for dialect in _dialects())
        raise NotFound(f"there is no API {name[:40]!r}", f"There are {known}")
    return json_response(openapi.document(found))


ROUTES = (Route("GET", "/docs", "read", page), Route("GET", "/docs/{dialect}.json", "read", document))


def _dialects() -> list[Dialect]:
    from freehold.serving.own import OWN

    return [*installed_dialects(), OWN]


@cache
def _page() -> str:
    parts = "".join(_part(dialect) for dialect in _dialects())
    head = f'<meta charset="utf-8"><title>Freehold: APIs</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body><h1>Freehold</h1><p>What this server answers.</p>'
        f"{parts}</body></html>"
    )


def _part(dialect: Dialect) -> str:
    mounts = ", ".join(f"<code>{escape(mount or '/')}</code>" for mount in dialect.mounts)
    link = f'<a href="/docs/{escape(dialect.name)}.json">OpenAPI</a>'
    document = openapi.document(dialect)
    routes = "".join(_route(document, path, method) for path, found in document["paths"].items() for method in found)
    return f"<h2>{escape(dialect.name)}</h2><p>Under {mounts}. {link}</p>{routes}"


def _route(document: dict[str, Any], path: str, method: str) -> str:
    operation = document["paths"][path][method]
    line = f"<code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}"
    if "requestBody" not in operation:
        return f"<p>{line}</p>"
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    rows = "".join(_rows(document, schema))
    return f"<details><summary>{line}</summary><table>{rows}</table></details>"


def _rows(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    for one in schema.get("anyOf", [schema]):
        found = _resolved(document, one)
        required = set(found.get("required", ()))
        for name, field in found.get("properties", {}).items():
            needed = " (required)" if name in required else ""
            yield f"<tr><td><code>{escape(name)}</code>{needed}</td><td>{escape(_kind(document, field))}</td></tr>"


def _kind(document: dict[str, Any], field: dict[str, Any], depth: int = 0) -> str:
    """The type of a field in words, with its bounds."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(document, each, depth) for each in field["anyOf"]))
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    field = _resolved(document, field)
    kind = str(field.get("type", "any"))
    if kind == "array":
        kind = f"list of {_kind(document, field.get('items', {}), depth)}"
    elif kind == "object" and depth < 2 and "properties" in field:
        inner = (f"{name}: {_kind(document, each, depth + 1)}" for name, each in field["properties"].items())
        kind = "{" + "; ".join(inner) + "}"
    bounds = [text.format(field[key]) for key, text in _BOUNDS.items() if key in field]
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found
