"""Ollama's routes over HTTP, with a fake engine that comes in through the real door."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from freehold.core.errors import ContextOverflow, RateLimited, WorkerFailed
from freehold.core.event import Failed, Logprobs, Reasoning, Text, TokenLogprob, ToolCallPart
from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.core.request import Insert
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from freehold.store.check import fsck
from tests.serving.support import FakeEngine, add_gguf, add_model, in_loop, soon
from tests.store import push_servers, servers
from tests.tiny import HERMES, write_gguf

HI = [{"role": "user", "content": "hi"}]
CHAT = {"model": "helpdesk", "messages": HI}
MOUNTS = ["", "/ollama"]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", template=HERMES)


@pytest.fixture
def other_gguf(tmp_path: Path) -> Path:
    """One that is not in the store."""
    return write_gguf(tmp_path / "other.gguf", seed=1)


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine, gguf: Path):
    add_gguf(store, "tiny", gguf)
    for name in ("helpdesk", "org/a:v1"):
        add_model(store, name)
    return create_app(settings, store, engine=engine)


@asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as one:
        yield one
    await app.state.desk.pool.close()


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("mount", MOUNTS)
@in_loop
async def test_a_chat_whole(app, mount: str):
    async with client(app) as one:
        found = (await one.post(f"{mount}/api/chat", json={**CHAT, "stream": False})).json()
    assert found.pop("created_at").endswith("Z")
    assert all(found.pop(key) >= 0 for key in ("total_duration", "load_duration"))
    assert found == {
        "model": "helpdesk", "message": {"role": "assistant", "content": "Hello world"}, "done": True,
        "done_reason": "stop", "prompt_eval_count": 3, "prompt_eval_duration": 0, "eval_count": 3, "eval_duration": 0,
    }  # fmt: skip


@pytest.mark.parametrize("mount", MOUNTS)
@in_loop
async def test_streaming_is_the_default(app, mount: str):
    async with client(app) as one:
        found = lines(await one.post(f"{mount}/api/chat", json=CHAT))
    assert [line["message"]["content"] for line in found] == ["Hello", " ", "world", ""]
    assert [line["done"] for line in found] == [False, False, False, True]


@in_loop
async def test_generate_tells_its_context_unless_raw(app, engine: FakeEngine):
    async with client(app) as one:
        body = {"model": "helpdesk", "prompt": "one two", "stream": False}
        found = (await one.post("/api/generate", json=body)).json()
        assert (found["response"], found["context"]) == ("Hello world", [3, 3, 5, 5])
        assert "context" not in (await one.post("/api/generate", json={**body, "raw": True})).json()
        again = (await one.post("/api/generate", json={**body, "context": found["context"]})).json()
        assert again["context"][:4] == [3, 3, 5, 5]
        assert "xxx xxx xxxxx xxxxx one two " in [seen.prompt for seen in engine.workers[0].seen]
        streamed = lines(await one.post("/api/generate", json={**body, "stream": True}))
        assert [line.get("context") for line in streamed] == [None, None, None, found["context"]]


@in_loop
async def test_a_template_that_does_not_end_is_refused_and_keeps_nobody_waiting(app, engine: FakeEngine):
    body = {"model": "tiny", "prompt": "one", "stream": False}
    looping = {**body, "template": "{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}"}
    async with client(app) as one:
        bombs = [asyncio.create_task(one.post("/api/generate", json=looping)) for _ in range(8)]
        await asyncio.sleep(0)
        assert (await one.post("/api/generate", json=body)).status_code == 200
        assert not any(bomb.done() for bomb in bombs[1:]), "a thread of theirs for each would have held it up"
        answer = await bombs[0]
        assert (answer.status_code, "runs longer than 3 s" in answer.json()["error"]) == (400, True)
        for bomb in bombs:
            bomb.cancel()
        await asyncio.gather(*bombs, return_exceptions=True)


@in_loop
async def test_text_before_a_suffix(app, store: Store, engine: FakeEngine, tmp_path: Path):
    add_gguf(store, "coder", write_gguf(tmp_path / "coder.gguf", infill=True))
    form = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"
    body = {"model": "coder", "prompt": "def f(", "suffix": "return 1", "stream": False}
    async with client(app) as one:
        found = (await one.post("/api/generate", json=body)).json()
        assert (found["response"], "context" in found) == ("Hello world", False)
        seen = engine.workers[0].seen[-1]
        assert (seen.prompt, seen.insert) == ("", Insert("def f(", "return 1"))
        assert lines(await one.post("/api/generate", json={**body, "stream": True}))[-1]["done"] is True
        assert (await one.post("/api/generate", json={**body, "prompt": ""})).json()["response"] == "Hello world"
        await one.post("/api/generate", json={**body, "template": form})
        seen = engine.workers[0].seen[-1]
        assert (seen.prompt, seen.insert) == ("<P>def f(<S>return 1<M>", None)
        for wrong, why in (({"model": "tiny"}, "does not support insert"), ({"template": "{{ .Prompt }}"}, ".Suffix")):
            answer = await one.post("/api/generate", json={**body, **wrong})
            assert (answer.status_code, why in answer.json()["error"]) == (400, True)
        assert "insert" in (await one.post("/api/show", json={"model": "coder"})).json()["capabilities"]


@in_loop
async def test_a_model_with_an_adapter_is_named_as_two(app, store: Store, engine: FakeEngine):
    digest = store.add_bytes(b"adapter")
    store.put(Name.parse("mild"), Manifest(parts=(Part("adapter", digest, 7, "adapter.gguf"),)))
    async with client(app) as one:
        answer = await one.post("/api/chat", json={**CHAT, "model": "TINY+Mild", "think": False})
        assert (answer.status_code, lines(answer)[-1]["model"]) == (200, "TINY+Mild")
        assert engine.workers[0].seen[-1].adapter == str(store.resolve(Name.parse("mild")))
        for path in ("show", "copy"):
            wrong = {"model": "tiny+mild", "source": "tiny+mild", "destination": "x"}
            assert (await one.post(f"/api/{path}", json=wrong)).status_code == 404


@in_loop
async def test_a_model_that_goes_at_once_goes_after_the_last_look(app, engine: FakeEngine):
    body = {"model": "helpdesk", "prompt": "a", "stream": False, "keep_alive": 0}
    async with client(app) as one:
        assert (await one.post("/api/generate", json=body)).json()["context"]
        await soon(lambda: not engine.workers[0].alive)
    assert len(engine.workers) == 1


@in_loop
async def test_thoughts_calls_and_logprobs(app, engine: FakeEngine):
    engine.script = [
        Reasoning("h"), Reasoning("m"), Logprobs((TokenLogprob("Let", -0.5, (76,), (TokenLogprob("La", -2.0),)),)),
        Text("Let"), Text(" me."), ToolCallPart(0, "c1", "weather", '{"city": '), ToolCallPart(0, arguments='"Ulm"}'),
        ToolCallPart(1, "c2", "clock", "{}"), ToolCallPart(2, "c3", "cut", '{"a'),
    ]  # fmt: skip
    async with client(app) as one:
        whole = (await one.post("/api/chat", json={**CHAT, "stream": False, "logprobs": True})).json()
        streamed = lines(await one.post("/api/chat", json=CHAT))
    message = whole["message"]
    assert (message["thinking"], message["content"]) == ("hm", "Let me.")
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather", "clock", "cut"]
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == [{"city": "Ulm"}, {}, {"_raw": '{"a'}]
    assert whole["logprobs"][0]["top_logprobs"][0]["token"] == "La"
    assert whole["done_reason"] == "stop"
    told = [call for line in streamed for call in line["message"].get("tool_calls", [])]
    assert told == message["tool_calls"]
    assert "".join(line["message"].get("thinking", "") for line in streamed) == "hm"


@in_loop
async def test_thinking_is_asked_only_of_models_that_do(app):
    async with client(app) as one:
        answer = await one.post("/api/chat", json={"model": "tiny", "messages": HI, "think": True})
        assert (answer.status_code, "does not support thinking" in answer.json()["error"]) == (400, True)
        assert (await one.post("/api/chat", json={"model": "tiny", "messages": HI, "think": False})).status_code == 200


@in_loop
async def test_nothing_asked_loads_and_unloads(app, engine: FakeEngine):
    async with client(app) as one:
        for path, body in (("chat", {"model": "helpdesk"}), ("generate", {"model": "helpdesk", "prompt": ""})):
            assert (await one.post(f"/api/{path}", json=body)).json()["done_reason"] == "load"
            (loaded,) = (await one.get("/api/ps")).json()["models"]
            assert (loaded["name"], loaded["context_length"]) == ("helpdesk:latest", 64)
            gone = (await one.post(f"/api/{path}", json={**body, "keep_alive": 0})).json()
            assert (gone["done"], gone["done_reason"]) == (True, "unload")
            await soon(lambda: not engine.workers[-1].alive)
            assert (await one.get("/api/ps")).json() == {"models": []}


@in_loop
async def test_embeddings(app):
    async with client(app) as one:
        found = (await one.post("/api/embed", json={"model": "helpdesk", "input": ["a", "b"]})).json()
        assert (found["embeddings"], found["prompt_eval_count"]) == ([[0.6, 0.8]] * 2, 4)
        short = (await one.post("/api/embed", json={"model": "helpdesk", "input": "a", "dimensions": 1})).json()
        assert short["embeddings"] == [[1.0]]
        assert (await one.post("/api/embed", json={"model": "helpdesk", "input": []})).json()["embeddings"] == []
        old = {"model": "helpdesk", "prompt": "a"}
        assert (await one.post("/api/embeddings", json=old)).json() == {"embedding": [0.6, 0.8]}
        assert (await one.post("/api/embeddings", json={**old, "prompt": ""})).json() == {"embedding": []}


@in_loop
async def test_what_is_there(app):
    async with client(app) as one:
        found = (await one.get("/api/tags")).json()["models"]
        assert [model["name"] for model in found] == ["helpdesk:latest", "org/a:v1", "tiny:latest"]
        tiny = found[2]
        assert (tiny["details"]["family"], len(tiny["digest"])) == ("llama", 64)
        shown = (await one.post("/api/show", json={"name": "TINY"})).json()
        assert shown["model_info"]["general.architecture"] == "llama"
        assert shown["model_info"]["tokenizer.ggml.tokens"] is None
        assert shown["capabilities"] == ["completion", "tools"]
        assert "<tools>" in shown["template"]
        verbose = (await one.post("/api/show", json={"model": "tiny", "verbose": True})).json()
        assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) > 300
        for path in ("/", "/ollama/"):
            assert (await one.get(path)).text == "Ollama is running"
            assert (await one.head(path)).status_code == 200
        assert (await one.get("/api/version")).json()["version"]


@in_loop
async def test_copy_and_delete(app, store: Store, engine: FakeEngine):
    async with client(app) as one:
        assert (await one.post("/api/copy", json={"source": "HELPDESK", "destination": "Two:x"})).status_code == 200
        await one.post("/api/chat", json=CHAT)
        assert (await one.request("DELETE", "/api/delete", json={"name": "helpdesk"})).status_code == 200
        assert engine.workers[0].alive, "another name has the same model"
        assert (await one.request("DELETE", "/api/delete", json={"model": "two:X"})).status_code == 200
        assert not engine.workers[0].alive
        for body in ({"model": "helpdesk"}, {}):
            assert (await one.request("DELETE", "/api/delete", json=body)).status_code in (400, 404)
    assert [str(entry.name) for entry in store.list()] == ["org/a:v1", "tiny"]
    assert fsck(store, deep=True) == []


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@in_loop
async def test_blobs(app, store: Store):
    data = b"x" * 3_000_000
    path = f"/api/blobs/{digest_of(data)}"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    async with client(app) as one:
        assert (await one.head(path)).status_code == 404
        wrong = await one.post(path, content=data[1:])
        assert (wrong.status_code, "digest mismatch" in wrong.json()["error"]) == (400, True)
        assert (await one.head(path)).status_code == 404
        assert (await one.post(path, content=pieces())).status_code == 201
        assert (await one.head(path)).status_code == 200
        assert (await one.post(path, content=data, headers={"content-type": "application/json"})).status_code == 200
        assert (await one.post("/api/blobs/sha256:xyz", content=b"")).status_code == 400
    assert not list(store.folder.glob("rooms/*"))


@in_loop
async def test_create(app, store: Store, gguf: Path):
    data = gguf.read_bytes()
    made = {"model": "made", "files": {"a.gguf": digest_of(data)}, "system": "Be kind.", "parameters": {"stop": ["E"]}}
    async with client(app) as one:
        await one.post(f"/api/blobs/{digest_of(data)}", content=data)
        told = lines(await one.post("/api/create", json=made))
        assert told[-1] == {"status": "success"}
        more = {"model": "more", "from": "Made", "messages": HI, "license": ["MIT"], "stream": False}
        assert (await one.post("/api/create", json=more)).json() == {"status": "success"}
        shown = (await one.post("/api/show", json={"model": "more"})).json()
        assert (shown["system"], shown["license"]) == ("Be kind.", "MIT")
        assert shown["messages"] == HI
        assert shown["parameters"].split() == ["stop", '"E"']
        small = {"model": "small", "from": "more", "quantize": "q4_0", "stream": False}
        assert (await one.post("/api/create", json=small)).json() == {"status": "success"}
        assert (await one.post("/api/show", json={"model": "small"})).json()["system"] == "Be kind."
    manifest = store.get(Name.parse("small"))
    assert manifest.details.quantization == "Q4_0"
    assert "unquantised" not in " ".join(str(entry.name) for entry in store.list())
    assert fsck(store, deep=True) == []
    assert not list(store.folder.glob("rooms/*"))


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"model": "x"}, 400),
        ({"model": "x", "from": "nope"}, 404),
        ({"model": "x y", "from": "tiny"}, 400),
        ({"model": "x", "from": "tiny", "files": {"a": "b"}}, 400),
        ({"model": "x", "from": "/etc/passwd"}, 404),
        ({"model": "x", "files": {"../a.gguf": "sha256:" + "0" * 64}}, 200),
        ({"model": "x", "files": {"a.gguf": "sha256:" + "0" * 64}}, 200),
        ({"model": "x", "from": "tiny", "template": "{{ if"}, 200),
        ({"model": "x", "from": "tiny", "quantize": "Q9_Z"}, 200),
    ],
)
@in_loop
async def test_what_cannot_be_created(app, store: Store, wrong: dict[str, Any], status: int):
    """What is found out after the first line is the last line."""
    before = [entry.name for entry in store.list()]
    async with client(app) as one:
        answer = await one.post("/api/create", json=wrong)
        assert answer.status_code == status
        assert isinstance(json.loads(answer.text.splitlines()[-1])["error"], str)
        if status == 200:
            assert (await one.post("/api/create", json={**wrong, "stream": False})).status_code in (400, 404)
    assert [entry.name for entry in store.list()] == before
    assert not list(store.folder.glob("rooms/*"))


@pytest.fixture
def site() -> Iterator[servers.Site]:
    with servers.serving() as running:
        yield running


@in_loop
async def test_pull(app, store: Store, site: servers.Site, other_gguf: Path):
    servers.registry(site, "library/far", "1b", {"model": other_gguf.read_bytes(), "system": b"Be brief."})
    place = site.url.removeprefix("http://")
    async with client(app) as one:
        told = lines(await one.post("/api/pull", json={"name": f"{place}/library/far:1b"}))
        assert told[0] == {"status": "pulling manifest"}
        assert told[-1] == {"status": "success"}
        assert any(line.get("completed") == line.get("total") == other_gguf.stat().st_size for line in told)
        assert all(line["digest"].startswith("sha256:") for line in told if "total" in line)
        missing = await one.post("/api/pull", json={"model": f"{place}/library/no", "stream": False})
        assert (missing.status_code, "no" in missing.json()["error"]) == (404, True)
        assert "error" in lines(await one.post("/api/pull", json={"model": f"{place}/library/no"}))[-1]
        shown = await one.post("/api/show", json={"model": f"{place}/library/far:1b"})
        assert shown.json()["system"] == "Be brief."
    assert str(store.list()[1].name) == "library/far:1b"


@in_loop
async def test_a_pull_stops_when_its_client_leaves(app, store: Store, site: servers.Site, other_gguf: Path):
    servers.registry(site, "library/far", "1b", {"model": other_gguf.read_bytes()})
    site.pause = lambda: __import__("time").sleep(0.1)
    place = site.url.removeprefix("http://")
    async with client(app) as one:
        asked = one.post("/api/pull", json={"model": f"{place}/library/far:1b", "stream": False})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked, 0.5)
        await asyncio.sleep(1.0)
        sent = site.total
        await asyncio.sleep(0.5)
        assert site.total == sent < other_gguf.stat().st_size
        site.pause = lambda: None
        told = lines(await one.post("/api/pull", json={"model": f"{place}/library/far:1b"}))
        assert told[-1] == {"status": "success"}
        assert site.sent[max(site.sent, key=site.sent.__getitem__)] < 2 * other_gguf.stat().st_size


@in_loop
async def test_push(app, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    state = push_servers.RegistryState()
    with push_servers.serving(push_servers.RegistryPlace, state) as place:
        async with client(app) as one:
            assert (await one.post("/api/push", json={"model": f"{place}/org/tiny"})).status_code == 404
            await one.post("/api/copy", json={"source": "tiny", "destination": "org/tiny"})
            told = lines(await one.post("/api/push", json={"model": f"{place}/org/tiny"}))
    assert told[-1] == {"status": "success"}
    assert "latest" in state.manifests


@in_loop
async def test_errors_are_strings(app, engine: FakeEngine):
    async with client(app) as one:
        for path in ("/api/nothing", "/ollama/api/nothing", "/api/"):
            answer = await one.get(path)
            assert (answer.status_code, isinstance(answer.json()["error"], str)) == (404, True)
        assert isinstance((await one.get("/api/chat")).json()["error"], str)
        for body in (b"{", b"[]", b'{"model": "helpdesk", "model": "x"}', b"\xff", b'{"model": 1}'):
            assert (await one.post("/api/chat", content=body)).status_code == 400
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await one.post("/api/chat", content=json.dumps(CHAT), headers=form)).status_code == 200
        plain = await one.post("/api/chat", content=json.dumps(CHAT), headers={"content-type": "text/plain"})
        assert plain.status_code == 415
        foreign = await one.post("/api/chat", json=CHAT, headers={"origin": "https://evil.example"})
        assert (foreign.status_code, isinstance(foreign.json()["error"], str)) == (403, True)
        missing = await one.post("/api/chat", json={**CHAT, "model": "nope"})
        assert (missing.status_code, "not found" in missing.json()["error"]) == (404, True)
        for refusal, status in ((ContextOverflow("too long"), 400), (RateLimited("slowly"), 429)):
            engine.refusal = refusal
            answer = await one.post("/api/chat", json=CHAT)
            assert (answer.status_code, refusal.message in answer.json()["error"]) == (status, True)


@in_loop
async def test_a_failure_in_a_stream_is_its_last_line(app, engine: FakeEngine):
    engine.script = [Text("He"), Failed(WorkerFailed("the worker died"))]
    async with client(app) as one:
        found = lines(await one.post("/api/chat", json=CHAT))
    assert found[-1] == {"error": "the worker died"}
    assert not any(line.get("done") for line in found)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ if .System }}<s>{{ .System }}</s>{{ end }}<u>{{ .Prompt }}</u>{{ .Response }}",
         "<s>Be kind.</s><u>hi</u>"),
        ("{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}>",
         "[system]Be kind.[user]hi>"),
    ],
)  # fmt: skip
@in_loop
async def test_a_template_that_comes_with_the_prompt(app, engine: FakeEngine, template: str, said: str):
    body = {"model": "helpdesk", "prompt": "hi", "system": "Be kind.", "template": template, "stream": False}
    async with client(app) as one:
        assert (await one.post("/api/generate", json=body)).json()["response"] == "Hello world"
        seen = engine.workers[0].seen[0]
        assert (seen.prompt, seen.messages) == (said, ())
        for wrong in ("{{ if .Tools }}x{{ end }}", "{% for %}", "{{ messages[0].x.y.z() }}", "{{ .Prompt"):
            answer = await one.post("/api/generate", json={**body, "template": wrong})
            assert (answer.status_code, isinstance(answer.json()["error"], str)) == (400, True)


@in_loop
async def test_more_of_the_same_name_is_not_taken_twice(app):
    """A copy onto itself, a copy of nothing, and names that are none."""
    async with client(app) as one:
        for source, destination, status in (
            ("helpdesk", "HELPDESK:latest", 200), ("nope", "x", 404), ("helpdesk", "a b", 400),
            ("helpdesk", "../x", 400),
            ("helpdesk", "", 400), ("helpdesk+tiny", "x", 404), ("ollama::helpdesk", "x", 404),
        ):  # fmt: skip
            answer = await one.post("/api/copy", json={"source": source, "destination": destination})
            assert answer.status_code == status, (source, destination, answer.text)
