"""Conversations under a name of their own, and responses that are part of them."""

from typing import Any

import httpx
import pytest

from freehold.core.request import Message
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop

PATH = "/v1/conversations"
ASKED = {"model": "helpdesk", "input": "hi"}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    return create_app(settings, store, engine=engine)


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


@in_loop
async def test_from_its_beginning_to_its_end(app, settings: Settings):
    async with client_of(app) as client:
        made = (await client.post(PATH, json={"items": [user("a")], "metadata": {"k": "v"}})).json()
        assert made["id"].startswith("conv_")
        assert made.items() >= {"object": "conversation", "metadata": {"k": "v"}}.items()
        path = f"{PATH}/{made['id']}"
        assert (await client.get(path)).json() == made
        assert (await client.post(path, json={"metadata": {"k": "w"}})).json()["metadata"] == {"k": "w"}
        added = (await client.post(f"{path}/items", json={"items": [user("b"), user("c")]})).json()
        assert [item["content"][0]["text"] for item in added["data"]] == ["b", "c"]
        listed = (await client.get(f"{path}/items", params={"limit": 2})).json()
        assert [item["content"][0]["text"] for item in listed["data"]] == ["c", "b"]
        assert listed["has_more"] is True
        rest = (await client.get(f"{path}/items", params={"after": listed["last_id"], "order": "desc"})).json()
        assert [item["content"][0]["text"] for item in rest["data"]] == ["a"]
        item = f"{path}/items/{listed['last_id']}"
        assert (await client.get(item)).json() == listed["data"][1]
        assert (await client.delete(item)).json()["id"] == made["id"]
        for gone in (await client.get(item), await client.delete(item)):
            assert gone.status_code == 404
        assert len((await client.get(f"{path}/items")).json()["data"]) == 2
        deleted = (await client.delete(path)).json()
        assert deleted == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
        for method, tail in (
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/items"),
            ("GET", "/items/x"),
            ("DELETE", "/items/x"),
        ):
            missing = await client.request(method, path + tail)
            assert (missing.status_code, "not found" in missing.json()["error"]["message"]) == (404, True)
        assert (await client.post(f"{path}/items", json={"items": [user("d")]})).status_code == 404
    assert not list(settings.answers.iterdir())


@pytest.mark.parametrize("stream", [False, True])
@in_loop
async def test_responses_go_on_from_it(app, engine: FakeEngine, stream: bool):
    async with client_of(app) as client:
        made = (await client.post(PATH, json={"items": [{"role": "system", "content": "Be kind."}]})).json()
        for reference in (made["id"], {"id": made["id"]}):
            body = {**ASKED, "conversation": reference, "stream": stream, "store": reference == made["id"]}
            answer = await client.post("/v1/responses", json=body)
            assert answer.status_code == 200
            if not stream:
                assert answer.json()["conversation"] == {"id": made["id"]}
        items = (await client.get(f"{PATH}/{made['id']}/items", params={"order": "asc"})).json()["data"]
        assert [item["role"] for item in items] == ["system", "user", "assistant", "user", "assistant"]
        count = await client.post("/v1/responses/input_tokens", json={**ASKED, "conversation": made["id"]})
        assert count.json()["input_tokens"] == 1 + 2 + 1 + 2 + 1 + 2 + 1
    second = engine.workers[0].seen[1].messages
    assert second == (
        Message("system", "Be kind."), Message("user", "hi"), Message("assistant", "Hello world"), Message("user", "hi")
    )  # fmt: skip
    await app.state.desk.close()


@in_loop
async def test_what_is_no_conversation(app):
    async with client_of(app) as client:
        for reference in ("conv_nothing", "resp_1", {"id": "../x"}):
            answer = await client.post("/v1/responses", json={**ASKED, "conversation": reference})
            assert (answer.status_code, "not found" in answer.json()["error"]["message"]) == (404, True)
        both = {**ASKED, "conversation": "conv_1", "previous_response_id": "resp_1"}
        assert (await client.post("/v1/responses", json=both)).json()["error"]["param"] == "conversation"
        response = (await client.post("/v1/responses", json=ASKED)).json()["id"]
        for path in (f"{PATH}/{response}", f"{PATH}/%2e%2e", f"{PATH}/conv_A"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post(PATH, json={"items": [{"type": "web_search_call"}]})).status_code == 400
    await app.state.desk.close()


@in_loop
async def test_one_that_goes_while_it_is_answered_costs_no_answer(app, engine: FakeEngine, settings: Settings):
    async with client_of(app) as client:
        made = (await client.post(PATH, json={})).json()
        engine.refusal = None
        body = {**ASKED, "conversation": made["id"]}
        original = app.state.desk.kept.change

        def gone(key: str, *arguments: Any, **named: Any) -> None:
            app.state.desk.kept.remove(key)
            original(key, *arguments, **named)

        app.state.desk.kept.change = gone
        assert (await client.post("/v1/responses", json=body)).json()["status"] == "completed"
    await app.state.desk.close()


@in_loop
async def test_there_may_be_no_room(tmp_path, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    app = create_app(Settings(home=tmp_path / "small", kept_answers=0), store, engine=engine)
    async with client_of(app) as client:
        assert (await client.post(PATH, json={})).status_code == 413
    large = create_app(Settings(home=tmp_path / "large", max_body=2000), store, engine=engine)
    async with client_of(large) as client:
        made = (await client.post(PATH, json={})).json()
        statuses = [
            (await client.post(f"{PATH}/{made['id']}/items", json={"items": [user("x" * 700)]})).status_code
            for _ in range(4)
        ]
        assert statuses[0] == 200
        assert statuses[-1] == 413


@in_loop
async def test_what_cannot_be_read_can_be_deleted(app, settings: Settings):
    """Whatever happened to its bytes; the error says to delete it."""
    async with client_of(app) as client:
        for damage in (lambda text: b"{", lambda text: text[: len(text) // 2]):
            made = (await client.post(PATH, json={"items": [user("a")]})).json()["id"]
            app.state.desk.kept.change(made, damage)
            path = f"{PATH}/{made}"
            answer = await client.get(path)
            assert (answer.status_code, "Delete it" in answer.json()["error"]["message"]) == (500, True)
            assert (await client.post(f"{path}/items", json={"items": [user("b")]})).status_code == 500
            assert (await client.delete(path)).json()["deleted"] is True
            assert (await client.get(path)).status_code == 404
        response = (await client.post("/v1/responses", json=ASKED)).json()["id"]
        (file,) = (settings.home / "answers").glob(f"{response}*")
        file.write_bytes(b"no longer compressed")
        assert (await client.get(f"/v1/responses/{response}")).status_code == 500
        assert (await client.delete(f"/v1/responses/{response}")).json()["deleted"] is True
        assert (await client.get(f"/v1/responses/{response}")).status_code == 404
    await app.state.desk.close()


@in_loop
async def test_each_kind_is_found_and_forgotten_by_its_own_route_alone(app):
    """All are kept in one place: a route must not touch what another one made."""
    chat = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}], "store": True}
    upload = {"bytes": 3, "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "batch"}
    async with client_of(app) as client:
        made = {
            "conversations": (await client.post(PATH, json={})).json()["id"],
            "responses": (await client.post("/v1/responses", json=ASKED)).json()["id"],
            "chat/completions": (await client.post("/v1/chat/completions", json=chat)).json()["id"],
        }
        waiting = (await client.post("/v1/uploads", json=upload)).json()["id"]
        kept = made["chat/completions"].replace("chatcmpl-", "chatcmpl_", 1)
        for route in made:
            for other in {*made.values(), waiting, kept} - {made[route]}:
                for answer in (await client.get(f"/v1/{route}/{other}"), await client.delete(f"/v1/{route}/{other}")):
                    assert answer.status_code == 404, (route, other)
        for route, name in made.items():
            assert (await client.get(f"/v1/{route}/{name}")).status_code == 200
        assert (await client.post(f"/v1/uploads/{waiting}/cancel")).json()["status"] == "cancelled"
    await app.state.desk.close()
