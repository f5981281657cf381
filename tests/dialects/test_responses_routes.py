import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from freehold.core.errors import ContextOverflow, RateLimited, WorkerFailed
from freehold.core.event import Failed, Reasoning, Text, ToolCallPart
from freehold.core.request import Message
from freehold.core.settings import Settings
from freehold.dialects.openai.responses.compaction import LEAD
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop, live, wait_for

ASKED = {"model": "helpdesk", "input": "hi"}
PATH = "/v1/responses"
CLOCK = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    return create_app(settings, store, engine=engine)


def _client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def _told(answer: httpx.Response) -> Iterator[dict]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    for frame in answer.text.split("\n\n")[:-1]:
        name, data = frame.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        yield told


def _text(response: dict) -> str:
    return "".join(p["text"] for item in response["output"] if item["type"] == "message" for p in item["content"])


@pytest.mark.parametrize("mount", ["/v1", "/openai/v1"])
@in_loop
async def test_whole_and_streamed_agree(app, mount: str):
    async with _client(app) as client:
        whole = (await client.post(f"{mount}/responses", json=ASKED)).json()
        told = list(_told(await client.post(f"{mount}/responses", json={**ASKED, "stream": True})))
    assert _text(whole) == "Hello world"
    assert "".join(each["delta"] for each in told if each["type"].endswith("text.delta")) == "Hello world"
    assert told[-1]["type"] == "response.completed"
    assert told[-1]["response"]["usage"] == whole["usage"]
    assert told[-1]["response"].keys() == whole.keys()
    await app.state.desk.pool.close()


@pytest.mark.parametrize("stream", [False, True])
@in_loop
async def test_a_response_can_be_asked_for_again_until_it_is_deleted(app, stream: bool):
    async with _client(app) as client:
        answer = await client.post(PATH, json={**ASKED, "stream": stream, "metadata": {"k": "v"}})
        response = list(_told(answer))[-1]["response"] if stream else answer.json()
        path = f"{PATH}/{response['id']}"
        assert (await client.get(path)).json() == response
        assert response["store"] is True
        deleted = (await client.delete(path)).json()
        assert deleted == {"id": response["id"], "object": "response", "deleted": True}
        for gone in (await client.get(path), await client.delete(path), await client.get(path + "/input_items")):
            assert gone.status_code == 404
            assert gone.json()["error"]["type"] == "invalid_request_error"
            assert response["id"] in gone.json()["error"]["message"]
    await app.state.desk.pool.close()


@in_loop
async def test_what_is_not_to_be_kept_is_not(app, settings):
    async with _client(app) as client:
        response = (await client.post(PATH, json={**ASKED, "store": False})).json()
        assert response["store"] is False
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 404
    assert not settings.answers.exists()
    await app.state.desk.pool.close()


@in_loop
async def test_a_conversation_goes_on(app, engine):
    async with _client(app) as client:
        first = (await client.post(PATH, json={**ASKED, "instructions": "Be kind."})).json()
        more = {**ASKED, "input": "and now?", "previous_response_id": first["id"], "instructions": "Be brief."}
        second = (await client.post(PATH, json=more)).json()
        await client.delete(f"{PATH}/{first['id']}")
        third = {**ASKED, "input": [{"role": "user", "content": "bye"}], "previous_response_id": second["id"]}
        assert (await client.post(PATH, json=third)).status_code == 200, "it has its own copy of what was said"
    assert second["previous_response_id"] == first["id"]
    hello = Message("assistant", "Hello world")
    turns = (Message("user", "hi"), hello, Message("user", "and now?"), hello, Message("user", "bye"))
    seen = [request.messages for request in engine.workers[0].seen]
    assert seen[0] == (Message("system", "Be kind."), *turns[:1])
    assert seen[1] == (Message("system", "Be brief."), *turns[:3]), "instructions are of one request alone"
    assert seen[2] == turns
    await app.state.desk.pool.close()


@in_loop
async def test_a_conversation_is_made_short_and_gone_on_from(app, engine):
    async with _client(app) as client:
        first = (await client.post(PATH, json=ASKED)).json()
        engine.script = [Reasoning("hm"), Text(" They said hi. ")]
        asked = {"model": "helpdesk", "previous_response_id": first["id"], "instructions": "Be kind."}
        short = (await client.post(f"{PATH}/compact", json=asked)).json()
        assert (short["object"], short["usage"]["total_tokens"]) == ("response.compaction", 5)
        assert [item["type"] for item in short["output"]] == ["message", "compaction"]
        assert short["output"][0]["content"][0]["text"] == "hi"
        engine.script = [Text("bye")]
        more = [*short["output"], {"role": "user", "content": "and now?"}]
        assert _text((await client.post(PATH, json={**ASKED, "input": more})).json()) == "bye"
        assert (await client.post(f"{PATH}/compact", json={"model": "helpdesk"})).json()["error"]["param"] == "input"
        wrong = [{"type": "compaction", "encrypted_content": "gAAAA"}]
        assert (await client.post(PATH, json={**ASKED, "input": wrong})).status_code == 400
    asks, goes_on = [request for request in engine.workers[0].seen if request.messages][-2:]
    assert asks.messages[:3] == (
        Message("system", "Be kind."),
        Message("user", "hi"),
        Message("assistant", "Hello world"),
    )
    assert "summary" in asks.messages[3].content
    assert goes_on.messages == (
        Message("user", "hi"), Message("assistant", LEAD + "They said hi."), Message("user", "and now?")
    )  # fmt: skip
    await app.state.desk.pool.close()


@in_loop
async def test_it_goes_on_after_the_server_was_started_again(app, settings, store, engine):
    async with _client(app) as client:
        first = (await client.post(PATH, json=ASKED)).json()
    await app.state.desk.pool.close()
    again = create_app(settings, store, engine=engine)
    async with _client(again) as client:
        assert (await client.get(f"{PATH}/{first['id']}")).json() == first
        second = await client.post(PATH, json={**ASKED, "previous_response_id": first["id"]})
        assert second.status_code == 200
    assert len(engine.workers[-1].seen[0].messages) == 3
    await again.state.desk.pool.close()


@in_loop
async def test_tools_round_trip(app, engine):
    engine.script = [Reasoning("what time"), ToolCallPart(0, "c1", "clock", "{}")]
    tools = {"tools": [CLOCK], "tool_choice": "required"}
    async with _client(app) as client:
        first = (await client.post(PATH, json={**ASKED, **tools})).json()
        engine.script = [Text("noon")]
        output = {"type": "function_call_output", "call_id": "c1", "output": "12:00"}
        more = {**ASKED, "tools": [CLOCK], "previous_response_id": first["id"], "input": [output]}
        second = (await client.post(PATH, json=more)).json()
        own = [{"role": "user", "content": "hi"}, *first["output"], output]
        third = (await client.post(PATH, json={**ASKED, "input": own, "store": False})).json()
    assert _text(second) == _text(third) == "noon"
    _, chained, sent = [request.messages for request in engine.workers[0].seen]
    assert chained == sent
    assert chained[1].reasoning == "what time"
    assert (chained[1].tool_calls[0].name, chained[2].content) == ("clock", "12:00")
    await app.state.desk.pool.close()


@in_loop
async def test_functions_of_a_namespace_are_called_by_their_own_names(app, engine):
    engine.script = [ToolCallPart(0, "c1", "desk__clock", "{}")]
    tools = [{"type": "namespace", "name": "desk", "description": "", "tools": [CLOCK]}]
    async with _client(app) as client:
        first = (await client.post(PATH, json={**ASKED, "tools": tools})).json()
        output = {"type": "function_call_output", "call_id": "c1", "output": "12:00"}
        await client.post(PATH, json={**ASKED, "input": [*first["output"], output], "tools": tools})
    assert (first["output"][0]["namespace"], first["output"][0]["name"]) == ("desk", "clock")
    assert engine.workers[0].seen[0].tools[0].name == "desk__clock"
    assert engine.workers[0].seen[1].messages[0].tool_calls[0].name == "desk__clock"
    await app.state.desk.pool.close()


@in_loop
async def test_items_can_be_referred_to(app, engine):
    async with _client(app) as client:
        first = (await client.post(PATH, json=ASKED)).json()
        asked = (await client.get(f"{PATH}/{first['id']}/input_items")).json()["data"]
        references = [{"type": "item_reference", "id": each["id"]} for each in (*asked, *first["output"])]
        more = [*references, {"role": "user", "content": "and now?"}]
        assert (await client.post(PATH, json={**ASKED, "input": more})).status_code == 200
        for unknown in ("msg_1", first["id"][:-1] + "9", "msg_" + "0" * 48):
            reference = {"type": "item_reference", "id": unknown}
            answer = await client.post(PATH, json={**ASKED, "input": [reference]})
            assert (answer.status_code, answer.json()["error"]["param"]) == (404, "input")
    assert [message.role for message in engine.workers[0].seen[1].messages] == ["user", "assistant", "user"]
    await app.state.desk.pool.close()


@in_loop
async def test_input_items_come_in_pages(app):
    given = [{"role": "user", "content": str(number)} for number in range(25)]
    async with _client(app) as client:
        response = (await client.post(PATH, json={**ASKED, "input": given})).json()
        path = f"{PATH}/{response['id']}/input_items"

        async def page(**query) -> tuple[list[str], dict]:
            listed = (await client.get(path, params=query)).json()
            return [item["content"][0]["text"] for item in listed["data"]], listed

        newest, listed = await page()
        assert newest == [str(number) for number in range(24, 4, -1)]
        assert (listed["object"], listed["has_more"]) == ("list", True)
        assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
        rest, last = await page(after=listed["last_id"])
        assert (rest, last["has_more"]) == (["4", "3", "2", "1", "0"], False)
        assert (await page(order="asc", limit=2))[0] == ["0", "1"]
        assert (await page(limit=100))[1]["has_more"] is False
        assert (await page(after=last["last_id"]))[1]["data"] == []
        for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}, {"after": "msg_1"}):
            answer = await client.get(path, params=query)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))
    await app.state.desk.pool.close()


@in_loop
async def test_tokens_are_counted_as_the_model_would_read_them(app):
    async with _client(app) as client:
        counted = (await client.post(f"{PATH}/input_tokens", json={**ASKED, "input": "a b c"})).json()
        assert counted == {"object": "response.input_tokens", "input_tokens": 4}
        first = (await client.post(PATH, json=ASKED)).json()
        more = {**ASKED, "input": "a", "previous_response_id": first["id"], "instructions": "x y", "tools": [CLOCK]}
        assert (await client.post(f"{PATH}/input_tokens", json=more)).json()["input_tokens"] == 7
        wrong = await client.post(f"{PATH}/input_tokens", json={**ASKED, "stream": True})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "stream")
    await app.state.desk.pool.close()


@pytest.mark.parametrize("path", ["resp_1", "resp_" + "0" * 48, "..%2Fserver", "%00", "x" * 300])
@in_loop
async def test_unknown_ids_are_not_found(app, path: str):
    async with _client(app) as client:
        for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            answer = await client.request(method, f"{PATH}/{path}{tail}")
            assert answer.status_code == 404
            assert answer.json()["error"]["type"] == "invalid_request_error"
        answer = await client.post(PATH, json={**ASKED, "previous_response_id": path[:200]})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "previous_response_not_found"
        assert answer.json()["error"]["param"] == "previous_response_id"


@in_loop
async def test_what_is_complete_is_neither_cancelled_nor_streamed(app):
    async with _client(app) as client:
        response = (await client.post(PATH, json=ASKED)).json()
        cancelled = await client.post(f"{PATH}/{response['id']}/cancel")
        streamed = await client.get(f"{PATH}/{response['id']}", params={"stream": "true"})
    assert (cancelled.status_code, cancelled.json()["error"]["code"]) == (400, None)
    assert "synchronous" in cancelled.json()["error"]["message"]
    assert (streamed.status_code, streamed.json()["error"]["param"]) == (400, "stream")
    await app.state.desk.pool.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status"), [(ContextOverflow("99 tokens", param="messages"), 400), (RateLimited("slow down"), 429)]
)
@in_loop
async def test_refusals_have_their_status_before_the_first_byte(app, engine, error, status: int, stream: bool):
    engine.refusal = error
    async with _client(app) as client:
        answer = await client.post(PATH, json={**ASKED, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, error.code)
    assert answer.json()["error"]["param"] == ("input" if status == 400 else None)
    await app.state.desk.pool.close()


@in_loop
async def test_a_failure_within_a_stream_is_told_and_kept(app, engine):
    engine.script = [Text("Hel"), Failed(WorkerFailed("the worker died"))]
    async with _client(app) as client:
        told = list(_told(await client.post(PATH, json={**ASKED, "stream": True})))
        assert told[-1]["type"] == "response.failed"
        assert told[-1]["response"]["error"]["code"] == "server_error"
        kept = (await client.get(f"{PATH}/{told[-1]['response']['id']}")).json()
        assert (kept["status"], _text(kept)) == ("failed", "Hel")
        assert (await client.post(PATH, json=ASKED)).status_code == 502
    await app.state.desk.pool.close()


@in_loop
async def test_an_unknown_model_and_a_wrong_body(app):
    async with _client(app) as client:
        missing = await client.post(PATH, json={**ASKED, "model": "nobody"})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        for body in ({"model": "helpdesk"}, {**ASKED, "input": []}):
            nothing = await client.post(PATH, json=body)
            assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "input")
        tools = {**ASKED, "tools": [{"type": "web_search"}]}
        refused = await client.post(PATH, json=tools)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
        assert (await client.post(f"{PATH}/resp_1", json={})).status_code == 405


@in_loop
async def test_a_schema_that_would_harm_the_engine_is_named_where_it_is(app):
    form = {"type": "json_schema", "name": "n", "schema": {"type": "string", "maxLength": 1 << 30}}
    async with _client(app) as client:
        answer = await client.post(PATH, json={**ASKED, "text": {"format": form}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "text.format")


@in_loop
async def test_an_answer_is_not_lost_because_it_cannot_be_kept(app, settings, caplog):
    settings.home.mkdir(exist_ok=True)
    settings.answers.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        async with _client(app) as client:
            response = (await client.post(PATH, json=ASKED)).json()
    assert (_text(response), response["store"]) == ("Hello world", False)
    assert "was not kept" in caplog.text
    await app.state.desk.pool.close()


@in_loop
async def test_the_oldest_make_room(tmp_path: Path, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    engine.script = [Text(str(number)) for number in range(300)]
    small = create_app(Settings(home=tmp_path / "home", kept_answers=4000), store, engine=engine)
    async with _client(small) as client:
        made = [(await client.post(PATH, json=ASKED)).json()["id"] for _ in range(6)]
        found = [(await client.get(f"{PATH}/{each}")).status_code for each in made]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1]) == (404, 200)
    none = create_app(Settings(home=tmp_path / "none", kept_answers=0), store, engine=engine)
    async with _client(none) as client:
        assert (await client.post(PATH, json=ASKED)).json()["store"] is False
    await small.state.desk.pool.close()
    await none.state.desk.pool.close()


@in_loop
async def test_conversations_do_not_grow_without_end(tmp_path: Path, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    small = create_app(Settings(home=tmp_path / "home", max_body=6000), store, engine=engine)
    async with _client(small) as client:
        first = (await client.post(PATH, json={**ASKED, "input": "x" * 3000})).json()
        more = {**ASKED, "previous_response_id": first["id"], "input": "y" * 3000}
        second = (await client.post(PATH, json=more)).json()
        assert (first["store"], second["store"]) == (True, False)
        item = (await client.get(f"{PATH}/{first['id']}/input_items")).json()["data"][0]
        references = [{"type": "item_reference", "id": item["id"]}] * 2
        answer = await client.post(PATH, json={**ASKED, "input": references})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    await small.state.desk.pool.close()


@in_loop
async def test_a_spoiled_file_is_the_servers_fault(app, settings):
    async with _client(app) as client:
        response = (await client.post(PATH, json=ASKED)).json()
        (file,) = settings.answers.iterdir()
        file.write_bytes(b"spoiled")
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 500
        assert (await client.delete(f"{PATH}/{response['id']}")).status_code == 200
    await app.state.desk.pool.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(app, engine, settings, stream: bool):
    engine.pause = 0.02
    engine.script = [Text("x")] * 10_000
    with live(app) as url, httpx.Client(base_url=url, timeout=10) as client:
        if stream:
            with client.stream("POST", PATH, json={**ASKED, "stream": True}) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(PATH, json=ASKED, timeout=0.3)
        wait_for(lambda: engine.workers[0].cancelled == 1)
        assert engine.workers[0].running == 0
    assert not settings.answers.exists(), "an answer that nobody waited for is not kept"
