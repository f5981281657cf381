"""What the server says of itself: every route of every dialect, from the types that decode requests."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator

from freehold.core.settings import Settings
from freehold.serving import openapi
from freehold.serving.app import create_app
from freehold.serving.own import OWN
from freehold.serving.routes import Dialect, installed_dialects
from freehold.store import Store
from tests.serving.support import FakeEngine, live

DIALECTS = [*installed_dialects(), OWN]
NAMES = [dialect.name for dialect in DIALECTS]


@pytest.fixture(params=DIALECTS, ids=NAMES)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


def test_every_route_is_described(dialect: Dialect):
    document = openapi.document(dialect)
    routes = openapi.described(dialect)
    described = {(path, method) for path, found in document["paths"].items() for method in found}
    plain = {(dialect.mounts[0] + route.path.replace(":path}", "}"), route.method.lower()) for route in routes}
    assert described == plain
    for route in routes:
        said = openapi.summary(route)
        assert said, route
        assert not said.startswith(route.method), f"the docstring of {route.handler.__name__} says nothing"


def test_what_is_only_refused_is_left_out():
    openai = next(dialect for dialect in DIALECTS if dialect.name == "openai")
    paths = openapi.document(openai)["paths"]
    assert "/v1/chat/completions" in paths
    assert not any("assistants" in path for path in paths)


def test_every_body_of_json_has_a_type(dialect: Dialect):
    assert [route.path for route in dialect.routes if route.takes == "json" and route.body is None] == []


def test_the_schemas_are_schemas_and_their_references_are_there(dialect: Dialect):
    document = openapi.document(dialect)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


def test_parameters_of_a_path_are_declared(dialect: Dialect):
    for path, operations in openapi.document(dialect)["paths"].items():
        for operation in operations.values():
            assert {each["name"] for each in operation["parameters"]} == set(re.findall(r"\{(\w+)\}", path))


class Seen(HTMLParser):
    """What a page refers to and has open."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path):
    settings = Settings(home=tmp_path)
    with Store.open(settings.store) as store, live(create_app(settings, store, engine=FakeEngine())) as address:
        page = httpx.get(f"{address}/docs")
        seen = Seen()
        seen.feed(page.text)
        assert (page.status_code, seen.open) == (200, [])
        assert "script" not in seen.tags
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert all(link.startswith("/docs/") for link in seen.links)
        assert len(seen.links) == len(NAMES)
        for link in seen.links:
            document = httpx.get(address + link).json()
            assert document["openapi"] == "3.1.0"
        for words in ("POST /v1/chat/completions", "temperature", "≤ 2", "max_tokens (required)", "/api/chat"):
            assert words in re.sub(r"</?code>", "", page.text)
        missing = httpx.get(f"{address}/docs/nobody.json")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
