import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from freehold.core.errors import BadInput, ContextOverflow, WorkerFailed
from freehold.core.event import Failed, Text
from freehold.core.settings import Settings
from freehold.dialects.llamacpp.routes import ALONE, VERTEX
from freehold.serving import app as serving_app
from freehold.serving.app import create_app
from freehold.serving.sole import Sole
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop
from tests.tiny import write_gguf

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    return create_app(settings, store, engine=engine)


@pytest.fixture
def sole(tmp_path: Path) -> Sole:
    model = write_gguf(tmp_path / "m.gguf")
    return Sole(model, aliases=("best", "b"), tags=("t",), metrics=True, slot_folder=tmp_path)


@pytest.fixture
def alone(settings: Settings, store: Store, engine: FakeEngine, sole: Sole):
    return create_app(settings, store, engine=engine, dialects=[ALONE], sole=sole)


@asynccontextmanager
async def _client(app, port: int = 6464) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://localhost:{port}") as client:
        yield client
    await app.state.desk.pool.close()


def _chunks(text: str) -> list[dict]:
    return [json.loads(frame.removeprefix("data: ")) for frame in text.split("\n\n") if frame.startswith("data: {")]


@pytest.mark.parametrize("path", ["/llama/completion", "/llama/completions", "/completion", "/completions"])
@in_loop
async def test_completion_whole_and_streamed(app, path: str):
    async with _client(app) as client:
        whole = (await client.post(path, json={"prompt": "hi", "model": "helpdesk"})).json()
        assert (whole["content"], whole["stop"], whole["model"]) == ("Hello world", True, "helpdesk")
        assert whole["stop_type"] == "eos"
        streamed = await client.post(path, json={"prompt": "hi", "stream": True})
    chunks = _chunks(streamed.text)
    assert "".join(chunk["content"] for chunk in chunks) == "Hello world"
    assert [chunk["stop"] for chunk in chunks] == [False, False, False, True]
    assert "[DONE]" not in streamed.text


@in_loop
async def test_a_form_from_curl_is_read(app):
    async with _client(app) as client:
        answer = await client.post("/completion", content=b'{"prompt": "hi"}', headers={"content-type": "text/plain"})
        assert answer.status_code == 415
        kind = {"content-type": "application/x-www-form-urlencoded"}
        assert (await client.post("/completion", content=b'{"prompt": "hi"}', headers=kind)).status_code == 200


@in_loop
async def test_several_prompts_are_answered_in_order(app, engine: FakeEngine):
    async with _client(app) as client:
        told = (await client.post("/completion", json={"prompt": ["a", [1, 2], {"prompt_string": "c"}]})).json()
        assert [each["index"] for each in told] == [0, 1, 2]
        mixed = await client.post("/completion", json={"prompt": [7, "abc", 8, "de"]})
        assert mixed.status_code == 200
    asked = engine.workers[0].seen
    assert sorted(str(each.prompt) for each in asked[:3]) == ["(1, 2)", "a", "c"]
    assert asked[-1].prompt == (7, 3, 8, 2)


@in_loop
async def test_one_of_several_prompts_fails(app, engine: FakeEngine):
    engine.refusal = BadInput("no")
    async with _client(app) as client:
        assert (await client.post("/completion", json={"prompt": ["a", "b"]})).status_code == 400


@in_loop
async def test_biases_by_text(app, engine: FakeEngine):
    async with _client(app) as client:
        for given in ([["ab abc", -5], [9, False]], {"ab abc": -5, "9": False}):
            assert (await client.post("/completion", json={"prompt": "x", "logit_bias": given})).status_code == 200
            assert engine.workers[0].seen[-1].sampling.logit_bias == {2: -5.0, 3: -5.0, 9: -100.0}
        wrong = await client.post("/completion", json={"prompt": "x", "logit_bias": [["a", "b"]]})
        assert wrong.status_code == 400


@in_loop
async def test_infill(app, engine: FakeEngine):
    async with _client(app) as client:
        answer = await client.post("/infill", json={"input_prefix": "a", "input_suffix": "b", "prompt": "c"})
        assert answer.json()["content"] == "Hello world"
        assert engine.workers[0].seen[-1].insert.suffix == "b"
        for wrong in ({"input_prefix": "a"}, {"input_prefix": "a", "input_suffix": "b", "input_extra": [{}]}):
            assert (await client.post("/infill", json=wrong)).status_code == 400


@in_loop
async def test_errors_have_llama_servers_shape(app, engine: FakeEngine):
    async with _client(app) as client:
        bad = await client.post("/llama/completion", json={"prompt": "x", "temperature": "hot"})
        assert bad.json()["error"]["type"] == "invalid_request_error"
        unknown = await client.post("/llama/completion", json={"prompt": "x", "model": "nobody"})
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
        assert (await client.get("/llama/nothing")).json()["error"]["code"] == 404
        engine.refusal = ContextOverflow("x", tokens=9, context=8)
        long = (await client.post("/llama/v1/chat/completions", json=CHAT)).json()["error"]
        assert (long["code"], long["n_prompt_tokens"], long["n_ctx"]) == (400, 9, 8)


@in_loop
async def test_a_failure_amid_a_stream(app, engine: FakeEngine):
    engine.script = [Text("Hel"), Failed(WorkerFailed("it died"))]
    async with _client(app) as client:
        native = await client.post("/completion", json={"prompt": "x", "stream": True})
        chat = await client.post("/llama/v1/chat/completions", json={**CHAT, "stream": True})
    assert _chunks(native.text)[-1]["error"]["code"] == 502
    assert "[DONE]" not in chat.text


@in_loop
async def test_chat_at_the_mount_and_openais_at_the_root(app):
    async with _client(app) as client:
        ours = (await client.post("/llama/v1/chat/completions", json=CHAT)).json()
        assert ours["system_fingerprint"].startswith("b")
        assert ours["timings"]["predicted_n"] == 3
        theirs = (await client.post("/v1/chat/completions", json={**CHAT, "model": "helpdesk"})).json()
        assert "timings" not in theirs
        stream = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
        streamed = await client.post("/chat/completions", json=stream)
    chunks = _chunks(streamed.text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert chunks[-1]["timings"]["predicted_n"] == 3
    assert streamed.text.endswith("data: [DONE]\n\n")


@in_loop
async def test_openais_completions(app):
    async with _client(app) as client:
        whole = (await client.post("/llama/v1/completions", json={"prompt": "x", "n_predict": 4})).json()
        assert whole["choices"][0]["text"] == "Hello world"
        streamed = await client.post("/llama/v1/completions", json={"prompt": "x", "stream": True})
    assert "".join(chunk["choices"][0]["text"] for chunk in _chunks(streamed.text)) == "Hello world"


@in_loop
async def test_tokens(app):
    async with _client(app) as client:
        assert (await client.post("/tokenize", json={"content": "a bcd"})).json() == {"tokens": [1, 3]}
        pieces = (await client.post("/tokenize", json={"content": "a bcd", "with_pieces": True})).json()["tokens"]
        assert pieces[1] == {"id": 3, "piece": "bcd"}
        assert (await client.post("/detokenize", json={"tokens": [2, 1]})).json() == {"content": "xx x "}
        templated = await client.post("/apply-template", json=CHAT)
        assert templated.json() == {"prompt": "hi "}
        counted = await client.post("/chat/completions/input_tokens", json=CHAT)
        assert counted.json()["input_tokens"] == 2


@in_loop
async def test_vectors(app):
    async with _client(app) as client:
        told = (await client.post("/llama/v1/embeddings", json={"input": ["a", {"content": [{"type": "text",
            "text": "b"}]}]})).json()  # fmt: skip
        assert [row["embedding"] for row in told["data"]] == [[0.6, 0.8]] * 2
        native = (await client.post("/embedding", json={"content": "a"})).json()
        assert native == [{"index": 0, "embedding": [[0.6, 0.8], [1.0, 0.0]]}]
        packed = (await client.post("/llama/v1/embeddings", json={"input": "a", "encoding_format": "base64"})).json()
        assert isinstance(packed["data"][0]["embedding"], str)
        for wrong in ([], {"content": "string"}, {"content": [{"type": "image_url"}]}):
            assert (await client.post("/llama/v1/embeddings", json={"input": wrong})).status_code == 400
        assert (await client.post("/embedding", json={})).status_code == 400


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking", "/llama/v1/rerank"])
@in_loop
async def test_ranks(app, engine: FakeEngine, path: str):
    async with _client(app) as client:
        told = (await client.post(path, json={"query": "q", "documents": ["a", "abc", "ab"], "top_n": 2})).json()
        assert [row["index"] for row in told["results"]] == [1, 2]
        assert (await client.post(path, json={"query": "q", "texts": ["a", "ab"]})).json()[0]["index"] == 1
        for wrong in ([], None, 123, [1, 2]):
            assert (await client.post(path, json={"query": "q", "documents": wrong})).status_code == 400
    assert engine.workers[0].model.ranking
    assert engine.workers[0].model.embedding


@in_loop
async def test_models_with_their_numbers(app, alone, sole: Sole):
    async with _client(app) as client:
        told = (await client.get("/llama/v1/models")).json()
        assert told["data"][0]["id"] == told["models"][0]["name"] == "helpdesk"
        assert told["data"][0]["meta"]["size"] > 0
    async with _client(alone) as client:
        row = (await client.get("/models")).json()["data"][0]
        assert (row["id"], row["aliases"], row["tags"]) == ("best", ["b", "best"], ["t"])
        assert (row["meta"]["n_ctx_train"], row["meta"]["n_vocab"], row["meta"]["vocab_type"]) == (1024, 372, 2)


@in_loop
async def test_a_model_must_be_meant(settings: Settings, store: Store, engine: FakeEngine):
    for name in ("one", "two"):
        add_model(store, name)
    app = create_app(settings, store, engine=engine)
    async with _client(app) as client:
        unclear = await client.post("/tokenize", json={"content": "a"})
        assert unclear.status_code == 400
        assert (await client.post("/tokenize?model=two", json={"content": "a"})).status_code == 200
        assert (await client.post("/completion", json={"prompt": "a"})).json()["model"] == "two"  # it is loaded


@in_loop
async def test_one_model_answers_to_any_name(alone, engine: FakeEngine):
    async with _client(alone) as client:
        told = (await client.post("/completion", json={"prompt": "a", "model": "gpt-4"})).json()
        assert told["model"] == "best"
        assert (await client.get("/v1/health")).json() == {"status": "ok"}
        assert (await client.get("/freehold/v1/workers")).status_code == 404
        for path in ("/cors-proxy?url=http://a", "/tools"):
            assert (await client.get(path)).status_code == (await client.post(path)).status_code == 403
    assert engine.workers[0].model.label == "best"


@in_loop
async def test_while_the_model_loads(alone, sole: Sole):
    sole.loaded = False
    async with _client(alone) as client:
        answer = await client.get("/health")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable_error")


@in_loop
async def test_properties_awake_and_asleep(alone, engine: FakeEngine):
    engine.told = {"properties": {"total_slots": 2, "is_sleeping": False}}
    async with _client(alone) as client:
        await client.post("/tokenize", json={"content": "a"})
        awake = (await client.get("/props")).json()
        assert (awake["total_slots"], awake["is_sleeping"], awake["model_alias"]) == (2, False, "best")
        assert awake["model_path"].endswith("m.gguf")
        await alone.state.desk.pool.stop()
        asleep = (await client.get("/props")).json()
        assert (asleep["total_slots"], asleep["is_sleeping"]) == (2, True)
        assert not alone.state.desk.pool.workers
        assert (await client.post("/props", json={})).status_code == 501


@in_loop
async def test_slots(alone, engine: FakeEngine, sole: Sole, tmp_path: Path):
    engine.told = {"slots": [{"id": 0, "is_processing": True}], "save slot": {"n_saved": 3},
                   "restore slot": {"n_restored": 3}, "erase slot": {"n_erased": 3}}  # fmt: skip
    async with _client(alone) as client:
        assert (await client.get("/slots")).json() == engine.told["slots"]
        assert (await client.get("/slots?fail_on_no_slot=1")).status_code == 503
        saved = await client.post("/slots/0?action=save", json={"filename": "a.bin"})
        assert saved.json() == {"n_saved": 3, "filename": "a.bin"}
        assert engine.asked[-1] == ("save slot", {"slot": 0, "filename": "a.bin"})
        missing = await client.post("/slots/0?action=restore", json={"filename": "a.bin"})
        assert missing.status_code == 400
        (tmp_path / "a.bin").write_bytes(b"x")
        assert (await client.post("/slots/0?action=restore", json={"filename": "a.bin"})).status_code == 200
        assert (await client.post("/slots/0?action=erase", json={})).json() == {"n_erased": 3}
        for name in ("../a", "a/b", ".hidden", "", "a\x00b", "a\n", "/etc/passwd", "x" * 200):
            assert (await client.post("/slots/0?action=save", json={"filename": name})).status_code == 400
        before = len(engine.asked)
        for path in ("/slots/x?action=erase", "/slots/0?action=melt", "/slots/99999?action=erase"):
            assert (await client.post(path, json={})).status_code == 400
        for action in ("erase", "save", "restore"):
            answer = await client.post(f"/slots/1?action={action}", json={"filename": "a.bin"})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["type"]) == (400, 400, "invalid_request_error")
            assert error["message"].startswith("Invalid slot ID")
        assert {question for question, _ in engine.asked[before:]} == {"slots"}, "nothing was done to another slot"
        sole.slot_folder, sole.slots = None, False
        assert (await client.post("/slots/0?action=erase", json={})).status_code == 501
        assert (await client.get("/slots")).status_code == 501


@in_loop
async def test_adapters_and_numbers(alone, app, engine: FakeEngine, sole: Sole):
    engine.told = {"adapters": [{"id": 0}], "set adapters": {"success": True},
                   "metrics": {"text": "llamacpp:x 1\n", "started": "7"}}  # fmt: skip
    async with _client(alone) as client:
        assert (await client.get("/lora-adapters")).json() == [{"id": 0}]
        assert (await client.post("/lora-adapters", json=[{"id": 0, "scale": 0.5}])).json() == {"success": True}
        assert engine.asked[-1] == ("set adapters", {"adapters": [{"id": 0, "scale": 0.5}]})
        assert (await client.post("/lora-adapters", json={"id": 0})).status_code == 400
        told = await client.get("/metrics")
        assert (told.text, told.headers["process-start-time-unix"]) == ("llamacpp:x 1\n", "7")
        sole.metrics = False
        assert (await client.get("/metrics")).status_code == 501
    async with _client(app) as client:
        assert (await client.get("/llama/metrics")).status_code == 404  # nothing is loaded


@in_loop
async def test_vertex(settings: Settings, store: Store, engine: FakeEngine, sole: Sole):
    app = create_app(settings, store, engine=engine, dialects=[VERTEX], sole=sole)
    async with _client(app) as client:
        told = (await client.post("/predict", json={"instances": [CHAT, {**CHAT, "max_tokens": 3}]})).json()
        assert [each["choices"][0]["message"]["content"] for each in told["predictions"]] == ["Hello world"] * 2
        assert (await client.post("/predict", json={"instances": []})).status_code == 400


@in_loop
async def test_on_llama_servers_own_port_its_dialect_answers(
    settings: Settings, store: Store, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
):
    import msgspec

    add_model(store, "helpdesk")
    monkeypatch.setattr(serving_app, "USUAL", {"llamacpp": 8080})
    app = create_app(msgspec.structs.replace(settings, also=("llamacpp",)), store, engine=engine)
    for port, own in ((8080, True), (6464, False)):
        async with _client(app, port) as client:
            told = (await client.get("/v1/models")).json()
            assert ("models" in told) is own
            assert ("pid" in (await client.get("/health")).json()) is not own
            failed = (await client.post("/v1/completions", json={"prompt": "a", "model": "nobody"})).json()["error"]
            assert ("code" in failed and failed["code"] == 404) is own
