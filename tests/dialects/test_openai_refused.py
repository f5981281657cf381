import httpx
import pytest

from freehold.core.settings import Settings
from freehold.dialects.openai import refused
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, in_loop

PATHS = [path for absent in refused.TABLE for path in absent.paths]


@pytest.fixture
def app(settings: Settings, store: Store):
    return create_app(settings, store, engine=FakeEngine())


def _client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@in_loop
async def test_what_is_not_here_says_so_in_openais_shape(app):
    async with _client(app) as client:
        for mount in ("/v1", "/openai/v1"):
            for path in PATHS:
                for method in ("GET", "POST", "DELETE"):
                    for rest in ("", "/x_1", "/x_1/deep/er"):
                        answer = await client.request(method, mount + path + rest, headers={"x": "y"})
                        assert answer.status_code == 501, path
                        error = answer.json()["error"]
                        assert set(error) == {"message", "type", "param", "code"}
                        assert error["code"] == "not_implemented"
                        assert "does not offer" in error["message"]
                        assert answer.headers["x-should-retry"] == "false"


@in_loop
async def test_forms_and_json_are_read_before_they_are_refused(app):
    async with _client(app) as client:
        form = await client.post("/v1/audio/transcriptions", files={"file": ("a.wav", bytes(100_000))})
        assert (form.status_code, form.json()["error"]["code"]) == (501, "not_implemented")
        assert "speech to text" in form.json()["error"]["message"]
        said = await client.post("/v1/images/generations", json={"prompt": "a cat"})
        assert said.status_code == 501


@in_loop
async def test_a_body_without_end_is_not_read_to_its_end(settings: Settings, store: Store):
    async def endless():
        while True:
            yield b" " * 1000

    small = Settings(home=settings.home, max_body=1024)
    async with _client(create_app(small, store, engine=FakeEngine())) as client:
        assert (await client.post("/v1/audio/speech", content=endless())).status_code == 413


@in_loop
async def test_what_is_here_is_not_refused(app):
    async with _client(app) as client:
        for path in ("/v1/models", "/v1/files", "/v1/batches"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/v1/imagesque")).status_code == 404


def test_the_table_names_each_path_once():
    assert len(set(PATHS)) == len(PATHS)
    assert all(absent.what and absent.instead for absent in refused.TABLE)
