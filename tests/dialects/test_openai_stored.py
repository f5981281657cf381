"""Chat completions that are kept because their request said so."""

import json
from typing import Any

import httpx
import msgspec
import pytest

from freehold.core.errors import WorkerFailed
from freehold.core.event import Failed, Text
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop

PATH = "/v1/chat/completions"
PARTS = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
CHAT = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}], "store": True}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    for name in ("helpdesk", "other"):
        add_model(store, name)
    return create_app(settings, store, engine=engine)


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def made(client: httpx.AsyncClient, **fields: Any) -> str:
    return (await client.post(PATH, json={**CHAT, **fields})).json()["id"]


@pytest.mark.parametrize("stream", [False, True])
@in_loop
async def test_one_is_kept_whole_or_streamed(app, stream: bool):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": PARTS}]
    body = {**CHAT, "messages": messages, "metadata": {"k": "v"}, "stream": stream}
    async with client_of(app) as client:
        answer = await client.post(PATH, json=body)
        first = json.loads(answer.text.split("\n\n")[0].removeprefix("data: ")) if stream else answer.json()
        path = f"{PATH}/{first['id']}"
        kept = (await client.get(path)).json()
        assert kept["choices"][0]["message"]["content"] == "Hello world"
        assert (kept["object"], kept["metadata"], kept["created"]) == ("chat.completion", {"k": "v"}, first["created"])
        if not stream:
            assert kept.items() >= first.items()
        told = (await client.get(f"{path}/messages")).json()["data"]
        assert [(each["id"], each["role"], each["content"]) for each in told] == [
            (f"{first['id']}-0", "system", "Be kind."), (f"{first['id']}-1", "user", "hi"),
        ]  # fmt: skip
        assert [each["content_parts"] for each in told] == [None, PARTS]
        newest = (await client.get(f"{path}/messages", params={"order": "desc", "limit": 1})).json()
        assert (newest["data"][0]["role"], newest["has_more"]) == ("user", True)
        changed = (await client.post(path, json={"metadata": {"k": "w"}})).json()
        assert (changed["metadata"], changed["id"]) == ({"k": "w"}, first["id"])
        deleted = (await client.delete(path)).json()
        assert deleted == {"object": "chat.completion.deleted", "id": first["id"], "deleted": True}
        for gone in (await client.get(path), await client.delete(path), await client.get(f"{path}/messages"),
                     await client.post(path, json={"metadata": None})):  # fmt: skip
            assert gone.status_code == 404
    await app.state.desk.close()


@in_loop
async def test_lists_are_filtered_ordered_and_cut_into_pages(app):
    async with client_of(app) as client:
        ids = [await made(client, metadata={"n": str(i % 2)}, model=("helpdesk", "other")[i > 3]) for i in range(6)]

        async def listed(**query: Any) -> tuple[list[int], bool]:
            found = (await client.get(PATH, params=query)).json()
            return [ids.index(each["id"]) for each in found["data"]], found["has_more"]

        assert await listed() == ([0, 1, 2, 3, 4, 5], False)
        assert await listed(order="desc", limit=2) == ([5, 4], True)
        assert await listed(order="desc", limit=4, after=ids[4]) == ([3, 2, 1, 0], False)
        assert await listed(model="other") == ([4, 5], False)
        assert await listed(**{"metadata[n]": "1", "limit": 2}) == ([1, 3], True)
        assert await listed(**{"metadata[n]": "1", "limit": 2, "after": ids[3]}) == ([5], False)
        assert await listed(**{"metadata[m]": "1"}) == ([], False)
        await client.post(f"{PATH}/{ids[0]}", json={"metadata": {"n": "7"}})
        assert (await listed())[0] == [0, 1, 2, 3, 4, 5], "other metadata make it no newer"
        for wrong, param in (({"limit": 0}, "limit"), ({"order": "up"}, "order"), ({"after": "chatcmpl-1"}, "after")):
            answer = await client.get(PATH, params=wrong)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    await app.state.desk.close()


@in_loop
async def test_what_is_not_to_be_kept_or_did_not_come_to_its_end(app, engine: FakeEngine, settings: Settings):
    async with client_of(app) as client:
        for store in (None, False):
            unkept = await made(client, store=store)
            assert (await client.get(f"{PATH}/{unkept}")).status_code == 404
        engine.script = [Text("He"), Failed(WorkerFailed("the worker died"))]
        await client.post(PATH, json={**CHAT, "stream": True})
        assert (await client.post(PATH, json=CHAT)).status_code == 502
        assert (await client.get(PATH)).json()["data"] == []
        for strange in ("resp_1", "chatcmpl-..%2fx", "chatcmpl-A"):
            assert (await client.get(f"{PATH}/{strange}")).status_code == 404
    await app.state.desk.close()


@in_loop
async def test_an_answer_is_not_lost_when_it_cannot_be_kept(tmp_path, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    app = create_app(Settings(home=tmp_path / "small", kept_answers=10), store, engine=engine)
    async with client_of(app) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        assert (await client.get(PATH)).json()["data"] == []
    await app.state.desk.close()


@in_loop
async def test_one_that_cannot_be_read_is_told_and_in_nobodys_way(app):
    async with client_of(app) as client:
        ids = [await made(client) for _ in range(3)]
        kept = app.state.desk.kept
        for damage in (b"", b"{", b'{"completion": 1}', b"\xff"):
            kept.change(ids[1].replace("chatcmpl-", "chatcmpl_", 1), lambda _, damage=damage: damage)
            answer = await client.get(f"{PATH}/{ids[1]}")
            assert (answer.status_code, ids[1] in answer.json()["error"]["message"]) == (500, True)
            assert [each["id"] for each in (await client.get(PATH)).json()["data"]] == [ids[0], ids[2]]
        assert (await client.delete(f"{PATH}/{ids[1]}")).json()["deleted"] is True
        assert (await client.get(f"{PATH}/{ids[1]}")).status_code == 404
    await app.state.desk.close()


@pytest.mark.parametrize("name", ["resp_1", "chatcmpl-", "chatcmpl-nothing", "chat_1", "..", "x" * 500, "file-1"])
@in_loop
async def test_names_of_other_things_find_nothing(app, name: str):
    async with client_of(app) as client:
        await made(client)
        for answer in (await client.get(f"{PATH}/{name}"), await client.delete(f"{PATH}/{name}")):
            assert answer.status_code == 404
            assert len(answer.text) < 600
    await app.state.desk.close()


@in_loop
async def test_one_larger_than_a_request_may_be_is_answered_and_not_kept(
    settings: Settings, store: Store, engine: FakeEngine
):
    add_model(store, "helpdesk")
    app = create_app(msgspec.structs.replace(settings, max_body=2048), store, engine=engine)
    engine.script = [Text("long " * 600)]
    async with client_of(app) as client:
        answer = await client.post(PATH, json=CHAT)
        assert len(answer.json()["choices"][0]["message"]["content"]) == 3000
        assert (await client.get(f"{PATH}/{answer.json()['id']}")).status_code == 404
        engine.script = [Text("short")]
        assert (await client.get(f"{PATH}/{await made(client)}")).status_code == 200
    await app.state.desk.close()
