import asyncio
import json
import time

import httpx
import pytest

from freehold.core.errors import ContextOverflow, NotEnoughMemory, RateLimited, WorkerFailed
from freehold.core.event import Failed, Text
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop, live, soon, wait_for

CHAT = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}]}
MOUNTS = ["/v1", "/openai/v1"]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    add_model(store, "org/model:tag")
    return create_app(settings, store, engine=engine)


def _client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@in_loop
async def test_a_model_is_deleted_with_its_worker(app, engine, store):
    async with _client(app) as client:
        await client.post("/v1/chat/completions", json=CHAT)
        deleted = await client.delete("/v1/models/helpdesk")
        assert deleted.json() == {"id": "helpdesk", "object": "model", "deleted": True}
        assert not engine.workers[0].alive
        for again in (await client.delete("/v1/models/helpdesk"), await client.post("/v1/chat/completions", json=CHAT)):
            assert (again.status_code, again.json()["error"]["code"]) == (404, "model_not_found")
        assert (await client.delete("/openai/v1/models/org%2Fmodel%3Atag")).json()["deleted"] is True
    assert not list(store.list())


@pytest.mark.parametrize("mount", MOUNTS)
@in_loop
async def test_models(app, mount: str):
    async with _client(app) as client:
        listed = (await client.get(f"{mount}/models")).json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["helpdesk", "org/model:tag"]
        assert (await client.get(f"{mount}/models/helpdesk")).json() == listed["data"][0]
        for path in ("org/model:tag", "org%2Fmodel:tag", "org%2Fmodel%3Atag"):
            assert (await client.get(f"{mount}/models/{path}")).json()["id"] == "org/model:tag"
        missing = await client.get(f"{mount}/models/helpdesc")
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"
        assert "helpdesk" in missing.json()["error"]["message"]


@pytest.mark.parametrize("path", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "a%0ab", "%ff", "x" * 3000])
@in_loop
async def test_hostile_model_ids_are_just_unknown(app, path: str):
    async with _client(app) as client:
        assert (await client.get(f"/v1/models/{path}")).status_code == 404


@pytest.mark.parametrize("mount", MOUNTS)
@in_loop
async def test_chat_whole_and_streamed_agree(app, mount: str):
    async with _client(app) as client:
        whole = (await client.post(f"{mount}/chat/completions", json=CHAT)).json()
        assert whole["choices"][0]["message"]["content"] == "Hello world"
        assert whole["usage"]["total_tokens"] == 6
        streamed = await client.post(f"{mount}/chat/completions", json={**CHAT, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    frames = streamed.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Hello world"
    await app.state.desk.pool.close()


@in_loop
async def test_completions_of_several_prompts_are_numbered_through(app):
    body = {"model": "helpdesk", "prompt": ["a", "b"], "n": 2, "echo": True}
    async with _client(app) as client:
        whole = (await client.post("/v1/completions", json=body)).json()
        streamed = (await client.post("/v1/completions", json={**body, "stream": True})).text
    texts = [choice["text"] for choice in whole["choices"]]
    assert texts == ["aHello world", "aHello world", "bHello world", "bHello world"]
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    gathered = ["", "", "", ""]
    for frame in streamed.split("\n\n")[:-2]:
        for choice in json.loads(frame.removeprefix("data: "))["choices"]:
            gathered[choice["index"]] += choice["text"]
    assert gathered == texts
    await app.state.desk.pool.close()


@in_loop
async def test_a_prompt_is_echoed_with_how_likely_it_was(app):
    """What evaluation tools ask for: nothing new, and the log-probability of each token that is there."""
    body = {"model": "helpdesk", "prompt": [[1, 2, 3], "a bb"], "echo": True, "logprobs": 2, "max_tokens": 0}
    async with _client(app) as client:
        whole = (await client.post("/v1/completions", json=body)).json()
        streamed = (await client.post("/v1/completions", json={**body, "stream": True})).text
        plain = (await client.post("/v1/completions", json={**body, "logprobs": None})).json()
        more = (await client.post("/v1/completions", json={**body, "max_tokens": 4, "prompt": [1, 2]})).json()
        nothing = (await client.post("/v1/completions", json={**body, "echo": False})).json()
    ids, text = whole["choices"]
    assert (ids["text"], ids["finish_reason"]) == ("xxxxxx", "length")
    assert ids["logprobs"]["tokens"] == ["x", "xx", "xxx"]
    assert ids["logprobs"]["token_logprobs"] == [None, -1.0, -1.0]
    assert ids["logprobs"]["top_logprobs"] == [None, {"": -1.0, "x": -2.0}, {"": -1.0, "x": -2.0}]
    assert text["text"] == "a bb"
    assert text["logprobs"]["token_logprobs"] == [-1.0, -1.0], "the model's own first token is before them"
    assert whole["usage"] == {"prompt_tokens": 6, "completion_tokens": 0, "total_tokens": 6} | {
        key: value for key, value in whole["usage"].items() if key.endswith("details")
    }
    pieces = [json.loads(frame.removeprefix("data: ")) for frame in streamed.split("\n\n")[:-2]]
    assert "".join(choice["text"] for piece in pieces for choice in piece["choices"]) == "xxxxxxa bb"
    assert [choice["text"] for choice in plain["choices"]] == ["x xx xxx ", "a bb"]
    assert more["choices"][0]["text"] == "xxxHello world"
    assert [choice["text"] for choice in nothing["choices"]] == ["", ""]
    await app.state.desk.pool.close()


@in_loop
async def test_embeddings(app):
    async with _client(app) as client:
        plain = (await client.post("/v1/embeddings", json={"model": "helpdesk", "input": ["a", "b"]})).json()
        assert [row["embedding"] for row in plain["data"]] == [[0.6, 0.8]] * 2
        body = {"model": "helpdesk", "input": "a", "dimensions": 2}
        assert (await client.post("/v1/embeddings", json=body)).status_code == 200
        wrong = await client.post("/v1/embeddings", json={**body, "dimensions": 3})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "dimensions")
    await app.state.desk.pool.close()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ContextOverflow("99 tokens"), 400),
        (NotEnoughMemory("needs 5 GiB"), 503),
        (WorkerFailed("died"), 502),
        (RateLimited("slow down", retry_after=7), 429),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
@in_loop
async def test_refusals_have_their_status_before_the_first_byte(app, engine, error, status: int, stream: bool):
    engine.refusal = error
    async with _client(app) as client:
        answer = await client.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == error.code
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    await app.state.desk.pool.close()


@in_loop
async def test_a_failure_within_a_stream_is_an_error_chunk_and_no_done(app, engine):
    engine.script = [Text("Hel"), Failed(WorkerFailed("the worker died"))]
    async with _client(app) as client:
        streamed = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        whole = await client.post("/v1/chat/completions", json=CHAT)
    assert streamed.status_code == 200
    assert "[DONE]" not in streamed.text
    last = json.loads(streamed.text.split("\n\n")[-2].removeprefix("data: "))
    assert last["error"]["code"] == "worker_failed"
    assert whole.status_code == 502
    await app.state.desk.pool.close()


@in_loop
async def test_a_refused_second_prompt_is_an_error_chunk(app, engine, settings):
    body = {"model": "helpdesk", "prompt": ["a", "b"], "stream": True}

    async def refuse_later() -> None:
        await soon(lambda: engine.workers and engine.workers[0].running)
        engine.refusal = ContextOverflow("too long")

    engine.pause = 0.02
    async with _client(app) as client:
        answer, _ = await asyncio.gather(client.post("/v1/completions", json=body), refuse_later())
    assert answer.status_code == 200
    assert "context_length_exceeded" in answer.text
    assert "[DONE]" not in answer.text
    await app.state.desk.pool.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(app, engine, stream: bool):
    engine.pause = 0.02
    engine.script = [Text("x")] * 10_000
    with live(app) as url, httpx.Client(base_url=url, timeout=10) as client:
        if stream:
            with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=CHAT, timeout=0.3)
        began = time.monotonic()
        wait_for(lambda: engine.workers[0].cancelled == 1)
        assert time.monotonic() - began < 1
        assert engine.workers[0].running == 0
        assert client.get("/freehold/v1/workers").json()["workers"][0]["busy"] == 0
