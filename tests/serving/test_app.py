import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as StarletteRoute

from freehold.core.errors import FreeholdError
from freehold.core.settings import Settings
from freehold.serving.app import Declared, check_declared, create_app
from freehold.serving.routes import Dialect, Route, installed_dialects
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop, soon

JSON = {"content-type": "application/json"}


@pytest.fixture
def app(settings: Settings, store: Store):
    add_model(store, "helpdesk")
    return create_app(settings, store, engine=FakeEngine())


def _client(app) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:6464")


def _every_route(app):
    return [(method, route) for route in app.routes for method in sorted(route.methods)]


def test_every_route_declares_a_known_role(app):
    assert len(app.routes) >= 13
    for route in app.routes:
        assert isinstance(route, Declared)
        assert route.role in ("public", "read", "infer", "manage", "admin")
    public = {route.path for route in app.routes if route.role == "public"}
    llama = {"/v1/health", "/llama/health", "/llama/v1/health"}
    assert public == {"/health", "/ready", "/", "/ollama/", "/api/version", "/ollama/api/version"} | llama, (
        "none tells of models or users"
    )


def test_an_undeclared_route_keeps_the_application_from_starting(app):
    app.router.routes.append(StarletteRoute("/debug", lambda request: PlainTextResponse("secrets")))
    with pytest.raises(FreeholdError, match="/debug"):
        check_declared(app)


def test_openai_registers_itself_by_being_there():
    assert "openai" in [dialect.name for dialect in installed_dialects()]


@in_loop
async def test_health(app):
    async with _client(app) as client:
        answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


@pytest.mark.parametrize(
    "host",
    ["evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "", "127.0.0.1@evil.com", "evil.com/127.0.0.1", "a b",
     "127.0.0.2", "[::2]", "localhost:6464:1", "127.0.0.1?x", "0.0.0.0"],
)  # fmt: skip
@in_loop
async def test_foreign_hosts_are_refused_on_every_route(app, host: str):
    async with _client(app) as client:
        for method, route in _every_route(app):
            answer = await client.request(
                method, route.path.replace("{model:path}", "helpdesk"), headers={"host": host}
            )
            assert answer.status_code == 403, (method, route.path)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:6464", "[::1]"])
@in_loop
async def test_loopback_names_are_answered(app, host: str):
    async with _client(app) as client:
        assert (await client.get("/health", headers={"host": host})).status_code == 200


@in_loop
async def test_a_configured_host_is_answered(tmp_path, store: Store):
    app = create_app(Settings(home=tmp_path, allowed_hosts=("Box.lan",)), store, engine=FakeEngine())
    async with _client(app) as client:
        assert (await client.get("/health", headers={"host": "box.lan:6464"})).status_code == 200
        assert (await client.get("/health", headers={"host": "other.lan"})).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": "https://evil.com"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1:6465"},
        {"origin": "file://"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@in_loop
async def test_foreign_pages_are_refused_on_every_route(app, headers: dict[str, str]):
    async with _client(app) as client:
        for method, route in _every_route(app):
            path = route.path.replace("{model:path}", "helpdesk")
            answer = await client.request(method, path, headers={**headers, **JSON}, content=b"{}")
            assert answer.status_code == 403, (method, route.path)
            assert "access-control-allow-origin" not in answer.headers


@in_loop
async def test_the_servers_own_pages_are_answered(app):
    headers = {"origin": "http://127.0.0.1:6464", "sec-fetch-site": "same-origin"}
    async with _client(app) as client:
        assert (await client.get("/health", headers=headers)).status_code == 200


@in_loop
async def test_preflights_are_not_granted(app):
    headers = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with _client(app) as client:
        answer = await client.options("/v1/chat/completions", headers=headers)
    assert answer.status_code == 405
    assert not any(name.startswith("access-control") for name in answer.headers)


CURL = ("", "application/x-www-form-urlencoded")
"""What curl says of a body when nobody tells it what that is."""


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
@in_loop
async def test_bodies_that_are_not_json_are_refused_on_every_route(app, kind: str):
    async with _client(app) as client:
        refusing = {"json"} if kind in CURL else {"json", "any"}
        for route in (route for route in app.routes if "POST" in route.methods and route.takes in refusing):
            answer = await client.post(route.path, content=b"{}", headers={"content-type": kind})
            assert answer.status_code == 415, route.path


@in_loop
async def test_compressed_and_oversized_bodies_are_refused_on_every_route(settings: Settings, store: Store):
    app = create_app(Settings(home=settings.home, max_body=1024), store, engine=FakeEngine())

    async def endless():
        for _ in range(4):
            yield b" " * 1000

    async with _client(app) as client:
        for route in (route for route in app.routes if "POST" in route.methods):
            path = route.path.replace("{digest}", "sha256:" + "0" * 64)
            zipped = await client.post(path, content=b"{}", headers={**JSON, "content-encoding": "gzip"})
            assert zipped.status_code == 415, path
            if route.takes == "chunks":
                continue  # bounded by the room on the disk
            declared = await client.post(route.path, content=b" " * 2000, headers=JSON)
            assert declared.status_code == 413
            assert declared.json()["error"]
            streamed = await client.post(route.path, content=endless(), headers=JSON)
            assert streamed.status_code == 413


@pytest.mark.parametrize(
    "path",
    ["/v1/nothing", "/nothing", "/v1/", "/v1", "/v1/models/", "//v1/models", "/V1/models", "/v1/chat", "/openai/v1/x"],
)
@in_loop
async def test_unknown_routes_are_404_in_the_clients_shape(app, path: str):
    async with _client(app) as client:
        answer = await client.get(f"http://127.0.0.1:6464{path}")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "GET"])
@in_loop
async def test_other_methods_are_405(app, method: str):
    async with _client(app) as client:
        assert (await client.request(method, "/v1/completions")).status_code == 405


@in_loop
async def test_a_bug_is_a_500_in_shape_without_its_details(settings: Settings, store: Store):
    async def broken(incoming, desk) -> Response:
        raise ZeroDivisionError("the secret inside")

    dialect = next(dialect for dialect in installed_dialects() if dialect.name == "openai")
    buggy = Dialect("buggy", ("/buggy",), (Route("GET", "/x", "public", broken),), dialect.error)
    app = create_app(settings, store, engine=FakeEngine(), dialects=[buggy])
    async with _client(app) as client:
        answer = await client.get("/buggy/x")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text


@in_loop
async def test_workers_are_listed_and_stopped(app):
    async with _client(app) as client:
        assert (await client.get("/freehold/v1/workers")).json() == {"workers": [], "loading": []}
        body = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        (worker,) = (await client.get("/freehold/v1/workers")).json()["workers"]
        assert (worker["model"], worker["task"], worker["busy"], worker["served"]) == ("helpdesk", "generate", 0, 1)
        unknown = await client.post("/freehold/v1/workers/stop", json={"model": "nobody"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        stopped = await client.post("/freehold/v1/workers/stop", json={"model": "helpdesk"})
        assert stopped.json() == {"stopped": 1}
        assert (await client.get("/freehold/v1/workers")).json() == {"workers": [], "loading": []}
        assert (await client.post("/freehold/v1/workers/stop", json={"all": True})).json() == {"stopped": 0}
        for wrong in ({}, {"modle": "x"}, {"model": 5}, []):
            assert (await client.post("/freehold/v1/workers/stop", json=wrong)).status_code == 400
    await app.state.desk.pool.close()


@in_loop
async def test_a_server_that_is_ready_says_so(app):
    async with _client(app) as client:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@in_loop
async def test_a_server_that_stops_is_not_ready(app):
    async with _client(app) as client:
        app.state.desk.drain()
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["reason"]) == (503, "the server is stopping")
        assert int(answer.headers["retry-after"]) >= 1
        body = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}]}
        refused = await client.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_busy")
        assert (await client.get("/health")).status_code == 200, "it lives"


@in_loop
async def test_a_server_whose_catalog_is_gone_is_not_ready(app, store: Store):
    store.catalog.path.write_bytes(b"no database at all" * 100)
    async with _client(app) as client:
        answer = await client.get("/ready")
        assert answer.status_code == 503
        assert "catalog" in answer.json()["reason"]


@in_loop
async def test_a_model_that_is_being_loaded_is_listed_with_its_progress(app):
    engine = app.state.desk.pool._engine
    engine.start_seconds = 0.5
    async with _client(app) as client:
        body = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}]}
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await soon(lambda: app.state.desk.pool.loading)
        (loading,) = (await client.get("/freehold/v1/workers")).json()["loading"]
        assert loading["model"] == "helpdesk"
        assert 0 <= loading["part"] <= 1
        assert (await asking).status_code == 200
        assert (await client.get("/freehold/v1/workers")).json()["loading"] == []
    await app.state.desk.pool.close()
