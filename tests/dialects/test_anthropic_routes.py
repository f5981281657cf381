"""Anthropic's routes over HTTP, with a fake engine that comes in through the real door."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from freehold.core.errors import ContextOverflow, NotEnoughMemory, RateLimited, WorkerFailed
from freehold.core.event import Failed, Finished, Reasoning, Started, Text, ToolCallPart, Usage
from freehold.core.settings import Settings
from freehold.dialects.anthropic import answers
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop

ASK = {"model": "helpdesk", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
THEIRS = {"anthropic-version": "2023-06-01"}
MOUNTS = ["/v1", "/anthropic/v1"]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    for name in ("helpdesk", "org/a", "org/b"):
        add_model(store, name)
    return create_app(settings, store, engine=engine)


@asynccontextmanager
async def client(app: Any, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of Anthropic's unless `headers` say otherwise; the workers end with it."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers or THEIRS) as one:
        yield one
    await app.state.desk.pool.close()


def named(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream by their names."""
    frames = [frame.split("\n") for frame in text.split("\n\n") if frame]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in frames]


@pytest.mark.parametrize("mount", MOUNTS)
@in_loop
async def test_a_message_whole(app, mount: str):
    async with client(app) as one:
        found = (await one.post(f"{mount}/messages", json=ASK)).json()
    assert found.pop("id").startswith("msg_")
    assert found == {
        "type": "message", "role": "assistant", "model": "helpdesk",
        "content": [{"type": "text", "text": "Hello world"}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 3,
                  "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }  # fmt: skip


@pytest.mark.parametrize("mount", MOUNTS)
@in_loop
async def test_a_message_streamed(app, mount: str):
    async with client(app) as one:
        answer = await one.post(f"{mount}/messages", json={**ASK, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = named(answer.text)
    assert [name for name, _ in events] == [
        "message_start", "content_block_start", *["content_block_delta"] * 3, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(name == data["type"] for name, data in events)
    assert events[0][1]["message"]["content"] == []
    assert "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta") == "Hello world"
    assert events[-2][1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2][1]["usage"]["output_tokens"] == 3


@in_loop
async def test_thoughts_and_calls_are_blocks_of_their_own(app, engine: FakeEngine):
    engine.script = [
        Reasoning("h"), Reasoning("m"), Text("Let me see."),
        ToolCallPart(0, "c1", "weather", '{"city": '), ToolCallPart(0, arguments='"Ulm"}'),
        ToolCallPart(1, "c2", "clock"),
    ]  # fmt: skip
    async with client(app) as one:
        whole = (await one.post("/v1/messages", json=ASK)).json()
        events = named((await one.post("/v1/messages", json={**ASK, "stream": True})).text)
    assert whole["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": answers.signature("hm")},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Ulm"}},
        {"type": "tool_use", "id": "c2", "name": "clock", "input": {}},
    ]
    assert whole["stop_reason"] == "tool_use"
    starts = [data["content_block"] for name, data in events if name == "content_block_start"]
    assert [start["type"] for start in starts] == ["thinking", "text", "tool_use", "tool_use"]
    assert [data["index"] for name, data in events if name == "content_block_stop"] == [0, 1, 2, 3]
    deltas = [data["delta"] for name, data in events if name == "content_block_delta" and data["index"] == 0]
    assert [delta["type"] for delta in deltas] == ["thinking_delta", "thinking_delta", "signature_delta"]
    partial = [d["delta"].get("partial_json", "") for n, d in events if n == "content_block_delta" and d["index"] == 2]
    assert json.loads("".join(partial)) == {"city": "Ulm"}


def test_the_reasons_for_an_end():
    def reason(event: Finished) -> dict[str, Any]:
        answer = answers.Answer("m")
        for each in (Started(prompt_tokens=7), event):
            list(answer.feed(each))
        return answer.body()

    assert reason(Finished("length"))["stop_reason"] == "max_tokens"
    assert reason(Finished("stop", stop="END"))["stop_sequence"] == "END"
    assert reason(Finished("stop", stop="END"))["stop_reason"] == "stop_sequence"
    assert reason(Finished("tool_calls"))["stop_reason"] == "tool_use"
    used = reason(Finished("stop", Usage(10, 2, 4)))["usage"]
    assert (used["input_tokens"], used["cache_read_input_tokens"], used["output_tokens"]) == (6, 4, 2)


def test_arguments_that_end_early_are_not_lost():
    answer = answers.Answer("m")
    for event in (Started(), ToolCallPart(0, "c", "f", '{"a": '), Finished("length")):
        list(answer.feed(event))
    assert answer.body()["content"][0]["input"] == {"_raw": '{"a": '}


@in_loop
async def test_counting(app):
    body = {key: value for key, value in ASK.items() if key != "max_tokens"}
    async with client(app) as one:
        assert (await one.post("/v1/messages/count_tokens", json=body)).json() == {"input_tokens": 2}


@in_loop
async def test_models_a_page_at_a_time(app):
    async with client(app) as one:
        page = (await one.get("/v1/models", params={"limit": 2})).json()
        assert [model["id"] for model in page["data"]] == ["helpdesk", "org/a"]
        assert (page["has_more"], page["first_id"], page["last_id"]) == (True, "helpdesk", "org/a")
        after = (await one.get("/v1/models", params={"after_id": "org/a"})).json()
        assert ([model["id"] for model in after["data"]], after["has_more"]) == (["org/b"], False)
        before = (await one.get("/v1/models", params={"before_id": "org/b", "limit": 1})).json()
        assert ([model["id"] for model in before["data"]], before["has_more"]) == (["org/a"], True)
        model = (await one.get("/v1/models/org/a")).json()
        assert (model["type"], model["display_name"], model["lifecycle"]) == ("model", "org/a", "active")
        assert model["created_at"].endswith("Z")
        for wrong in ({"limit": 0}, {"limit": "x"}, {"limit": 1001}, {"after_id": "nope"}, {"before_id": "nope"}):
            assert (await one.get("/v1/models", params=wrong)).status_code == 400


@in_loop
async def test_a_path_that_two_dialects_have_is_answered_for_who_asks(app):
    async with client(app) as one:
        assert "has_more" in (await one.get("/v1/models")).json()
        assert (await one.get("/v1/models/nope")).json()["type"] == "error"
        assert "has_more" in (await one.get("/anthropic/v1/models")).json()
        for path in ("/v1/nothing", "/nothing"):
            assert (await one.get(path)).json()["type"] == "error"
    async with client(app, accept="*/*") as other:
        assert (await other.get("/v1/models")).json()["object"] == "list"
        assert "has_more" in (await other.get("/anthropic/v1/models")).json()
        assert (await other.get("/v1/models/nope")).json()["error"]["code"] == "model_not_found"
        assert (await other.post("/v1/messages", json={})).json()["type"] == "error"
        for path in ("/v1/nothing", "/nothing"):
            assert "code" in (await other.get(path)).json()["error"]


@pytest.mark.parametrize(
    ("refusal", "status", "kind"),
    [
        (ContextOverflow("too long"), 400, "invalid_request_error"),
        (NotEnoughMemory("too large"), 503, "overloaded_error"),
        (WorkerFailed("gone"), 502, "api_error"),
        (RateLimited("slowly"), 429, "rate_limit_error"),
    ],
)
@in_loop
async def test_errors_in_their_shape(app, engine: FakeEngine, refusal: Any, status: int, kind: str):
    engine.refusal = refusal
    async with client(app) as one:
        for stream in (False, True):
            answer = await one.post("/v1/messages", json={**ASK, "stream": stream})
            assert answer.status_code == status
            assert answer.json()["error"]["type"] == kind
            assert answer.json()["type"] == "error"


@in_loop
async def test_a_failure_in_a_stream_is_its_last_event(app, engine: FakeEngine):
    engine.script = [Text("He"), Failed(WorkerFailed("the worker died"))]
    async with client(app) as one:
        events = named((await one.post("/v1/messages", json={**ASK, "stream": True})).text)
    assert [name for name, _ in events][-1] == "error"
    assert events[-1][1]["error"]["type"] == "api_error"
    assert "message_stop" not in [name for name, _ in events]


@in_loop
async def test_bad_bodies(app):
    async with client(app) as one:
        for body in (b"{", b"[]", b'{"model": "helpdesk"}', b'{"model": "helpdesk", "model": "x"}', b"\xff"):
            answer = await one.post("/v1/messages", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
        answer = await one.post("/v1/messages", json={**ASK, "model": "nope"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
        answer = await one.post("/v1/messages", content=b"x", headers={"content-type": "text/plain"})
        assert answer.status_code == 415


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "1.0", "", "x", "\u0661x", "0000000011", "1" * 5000, "000000001" + "9" * 5000]
)
@in_loop
async def test_a_page_is_of_a_size_within_bounds(app, limit: str):
    async with client(app) as one:
        answer = await one.get("/v1/models", params={"limit": limit})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert len(answer.text) < 300
        for known in ("1", "001", "1000"):
            assert (await one.get("/v1/models", params={"limit": known})).status_code == 200
