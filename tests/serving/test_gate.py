"""Keys, and the pages that may call."""

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from freehold.core.errors import FreeholdError
from freehold.serving.gate import Gate
from tests.serving.support import in_loop


async def _inner(scope, receive, send) -> None:
    await PlainTextResponse("in")(scope, receive, send)


def _client(keys: list[str], pages=lambda origin: origin == "http://good") -> httpx.AsyncClient:
    def error(error: FreeholdError) -> JSONResponse:
        return JSONResponse({"code": error.code}, error.status)

    gate = Gate(_inner, keys, frozenset({"/health"}), pages, error)
    return httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://localhost")


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 401), ({"authorization": "Bearer one"}, 200), ({"authorization": "bearer  two "}, 200),
    ({"x-api-key": "two"}, 200), ({"authorization": "Basic one"}, 401), ({"authorization": "Bearer on"}, 401),
    ({"authorization": "Bearer "}, 401), ({"x-api-key": "Two"}, 401),
])  # fmt: skip
@in_loop
async def test_keys(headers: dict, status: int):
    async with _client(["one", "two"]) as client:
        assert (await client.get("/x", headers=headers)).status_code == status
        assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("shown", ["schlüssel".encode(), "schlüssel".encode("latin-1"), b"schl\xffssel"])
@in_loop
async def test_a_key_may_have_any_letters(shown: bytes):
    async with _client(["schlüssel"]) as client:
        for headers in ([(b"authorization", b"Bearer " + shown)], [(b"x-api-key", shown)]):
            assert (await client.get("/x", headers=headers)).status_code == (401 if b"\xff" in shown else 200)


@in_loop
async def test_without_keys_all_are_admitted():
    async with _client([]) as client:
        assert (await client.get("/x")).text == "in"


@in_loop
async def test_pages_are_told_whether_they_may_call():
    async with _client(["one"]) as client:
        good = await client.options("/x", headers={"origin": "http://good"})
        assert good.status_code == 200
        assert good.headers["access-control-allow-origin"] == "http://good"
        assert good.headers["access-control-allow-credentials"] == "true"
        assert good.headers["access-control-allow-methods"] == "GET, POST, DELETE, OPTIONS"
        assert good.headers["access-control-allow-headers"] == "*"
        bad = await client.options("/x", headers={"origin": "http://evil"})
        assert bad.status_code == 200
        assert "access-control-allow-origin" not in bad.headers
        told = await client.get("/x", headers={"origin": "http://good", "x-api-key": "one"})
        assert told.headers["access-control-allow-origin"] == "http://good"
        refused = await client.get("/x", headers={"origin": "http://good"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "http://good")


@in_loop
async def test_without_keys_no_credentials_are_shared():
    async with _client([]) as client:
        told = await client.options("/x", headers={"origin": "http://good"})
        assert "access-control-allow-credentials" not in told.headers
