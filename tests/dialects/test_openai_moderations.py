import httpx
import pytest

from freehold.core.settings import Settings
from freehold.guard import moderation
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, in_loop


@pytest.fixture
def app(settings: Settings, store: Store):
    return create_app(settings, store, engine=FakeEngine())


def _client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize("mount", ["/v1", "/openai/v1"])
@in_loop
async def test_each_text_is_judged(app, mount: str):
    async with _client(app) as client:
        answer = (await client.post(f"{mount}/moderations", json={"input": ["hello", "I will kill you"]})).json()
    assert answer["model"] == "freehold-rules-1"
    assert answer["id"].startswith("modr-")
    kind, harmful = answer["results"]
    assert (kind["flagged"], harmful["flagged"]) == (False, True)
    for result in answer["results"]:
        for part in ("categories", "category_scores", "category_applied_input_types"):
            assert tuple(result[part]) == moderation.CATEGORIES
        assert set(map(tuple, result["category_applied_input_types"].values())) == {("text",)}
    assert harmful["categories"]["violence"] is True
    assert harmful["category_scores"]["violence"] >= 0.5
    assert harmful["categories"]["sexual"] is False


@in_loop
async def test_a_text_alone_parts_and_names_of_models(app):
    parts = [{"type": "text", "text": "I will"}, {"type": "text", "text": "kill you"}]
    async with _client(app) as client:
        for given in ("I will kill you", ["I will kill you"], parts):
            for model in (None, "omni-moderation-latest", "text-moderation-stable", "freehold-rules-1"):
                answer = await client.post("/v1/moderations", json={"input": given, "model": model})
                assert [result["flagged"] for result in answer.json()["results"]] == [True]


@in_loop
async def test_what_cannot_be_judged_is_refused(app):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    for body, status, param in (
        ({"input": [image]}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["a", {"type": "text", "text": "b"}]}, 400, "input"),
        ({"input": [{"type": "text"}]}, 400, "input"),
        ({"input": ["x" * 200_000] * 2}, 413, "input"),
        ({"input": "x", "model": "helpdesk"}, 404, "model"),
        ({"input": "x", "nonsense": 1}, 400, "nonsense"),
        ({}, 400, "input"),
    ):
        async with _client(app) as client:
            answer = await client.post("/v1/moderations", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), str(body)[:80]
