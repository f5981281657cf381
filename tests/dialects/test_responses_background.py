"""Responses that are made in the background: asked after, streamed anew, cancelled, lost with a server."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from freehold.core.errors import WorkerFailed
from freehold.core.event import Failed, Text
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop, soon

ASKED = {"model": "helpdesk", "input": "hi", "background": True}
PATH = "/v1/responses"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    return create_app(settings, store, engine=engine)


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def ended(client: httpx.AsyncClient, identifier: str) -> dict[str, Any]:
    for _ in range(500):
        found = (await client.get(f"{PATH}/{identifier}")).json()
        if found["status"] not in ("queued", "in_progress"):
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("it did not end")


def told(answer: httpx.Response) -> list[dict[str, Any]]:
    frames = answer.text.split("\n\n")[:-1]
    return [json.loads(frame.split("\n")[1].removeprefix("data: ")) for frame in frames]


def text(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item["content"])


@in_loop
async def test_it_is_made_though_nobody_waits(app, engine: FakeEngine):
    engine.hold.clear()
    async with client_of(app) as client:
        made = (await client.post(PATH, json=ASKED)).json()
        assert (made["status"], made["background"], made["output"]) == ("queued", True, [])
        await soon(lambda: engine.workers and engine.workers[0].running)
        assert (await client.get(f"{PATH}/{made['id']}")).json()["status"] == "in_progress"
        more = {"model": "helpdesk", "input": "and?", "previous_response_id": made["id"]}
        assert (await client.post(PATH, json=more)).json()["error"]["param"] == "previous_response_id"
        engine.hold.set()
        done = await ended(client, made["id"])
        assert (done["status"], text(done), done["usage"]["output_tokens"]) == ("completed", "Hello world", 3)
        assert (await client.post(PATH, json=more)).status_code == 200
        items = (await client.get(f"{PATH}/{made['id']}/input_items")).json()["data"]
        assert items[0]["content"][0]["text"] == "hi"
    await app.state.desk.close()


@in_loop
async def test_its_events_are_told_from_any_place(app):
    async with client_of(app) as client:
        events = told(await client.post(PATH, json={**ASKED, "stream": True}))
        kinds = [event["type"].removeprefix("response.") for event in events]
        assert kinds[:3] == ["created", "queued", "in_progress"]
        assert kinds[-1] == "completed"
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        path = f"{PATH}/{events[0]['response']['id']}"
        assert told(await client.get(path, params={"stream": "true"})) == events
        assert told(await client.get(path, params={"stream": "true", "starting_after": 4})) == events[5:]
        for wrong in ("x", "-2", "1" * 20):
            answer = await client.get(path, params={"stream": "true", "starting_after": wrong})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")
    await app.state.desk.close()


@in_loop
async def test_it_is_cancelled_where_it_was(app, engine: FakeEngine):
    engine.script, engine.pause = [Text("x")] * 10_000, 0.001
    async with client_of(app) as client:
        made = (await client.post(PATH, json=ASKED)).json()
        listening = asyncio.create_task(client.get(f"{PATH}/{made['id']}", params={"stream": "true"}))
        await soon(lambda: engine.workers and engine.workers[0].running)
        await asyncio.sleep(0.05)
        path = f"{PATH}/{made['id']}"
        for _ in range(2):
            left = (await client.post(f"{path}/cancel")).json()
            assert (left["status"], left["output"][0]["status"]) == ("cancelled", "incomplete")
        assert (engine.workers[0].running, engine.workers[0].cancelled) == (0, 1)
        assert (await client.get(path)).json() == left
        assert told(await listening)[-1]["type"] == "response.output_text.delta"
        app.state.desk.background.forget(made["id"])
        assert (await client.get(path)).json()["status"] == "cancelled"
        assert (await client.post(f"{path}/cancel")).json()["status"] == "cancelled"
        whole = (await client.post(PATH, json={"model": "helpdesk", "input": "hi", "max_output_tokens": 1})).json()
        assert "synchronous" in (await client.post(f"{PATH}/{whole['id']}/cancel")).json()["error"]["message"]
    await app.state.desk.close()


@in_loop
async def test_it_fails_and_says_so(app, engine: FakeEngine):
    engine.script = [Text("He"), Failed(WorkerFailed("the worker died"))]
    async with client_of(app) as client:
        made = (await client.post(PATH, json=ASKED)).json()
        done = await ended(client, made["id"])
        assert (done["status"], done["error"]["code"], text(done)) == ("failed", "server_error", "He")
    await app.state.desk.close()


@in_loop
async def test_what_cannot_be_made_is_refused_at_once(app, engine: FakeEngine, tmp_path, store: Store):
    async with client_of(app) as client:
        unkept = await client.post(PATH, json={**ASKED, "store": False})
        assert (unkept.status_code, unkept.json()["error"]["param"]) == (400, "store")
        unknown = await client.post(PATH, json={**ASKED, "model": "nobody"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    forgetful = create_app(Settings(home=tmp_path / "other", kept_answers=0), store, engine=engine)
    async with client_of(forgetful) as client:
        assert (await client.post(PATH, json=ASKED)).json()["error"]["param"] == "background"
    assert not engine.workers


@in_loop
async def test_one_that_a_server_did_not_end_is_said_to_have_failed(app, settings, store, engine: FakeEngine):
    engine.hold.clear()
    async with client_of(app) as client:
        made = (await client.post(PATH, json=ASKED)).json()
        await soon(lambda: engine.workers and engine.workers[0].running)
    await app.state.desk.close()
    again = create_app(settings, store, engine=engine)
    async with client_of(again) as client:
        lost = (await client.get(f"{PATH}/{made['id']}")).json()
        assert (lost["status"], "the server ended" in lost["error"]["message"]) == ("failed", True)
    await again.state.desk.close()


@in_loop
async def test_one_that_is_deleted_is_not_made_any_more(app, engine: FakeEngine):
    engine.hold.clear()
    async with client_of(app) as client:
        made = (await client.post(PATH, json=ASKED)).json()
        await soon(lambda: engine.workers and engine.workers[0].running)
        assert (await client.delete(f"{PATH}/{made['id']}")).json()["deleted"] is True
        assert engine.workers[0].running == 0
        assert (await client.get(f"{PATH}/{made['id']}")).status_code == 404
    await app.state.desk.close()
