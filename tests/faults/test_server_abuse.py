"""Bad input, full queues and impatient clients at a real server; its engine is a fake."""

import asyncio
import json
import socket
import threading
import time

import httpx
import pytest

from freehold.core.event import Text
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, live, wait_for

CHAT = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}]}
ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/openai/v1/chat/completions",
          "/v1/responses", "/v1/responses/input_tokens", "/freehold/v1/workers/stop", "/v1/batches", "/v1/moderations",
          "/v1/messages/batches"]  # fmt: skip
DEEP = b'{"model":"helpdesk","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES = {
    "empty": b"",
    "no json": b"hello",
    "array": b"[]",
    "number": b"5",
    "null": b"null",
    "string": b'"x"',
    "truncated": json.dumps(CHAT).encode()[:-3],
    "deep": DEEP,
    "deep strings": b'{"model":"' + b"[" * 500_000 + b'"}',
    "duplicate key": b'{"model":"helpdesk","model":"other","messages":[]}',
    "nan": b'{"model":"helpdesk","messages":[],"temperature":NaN}',
    "infinity": b'{"model":"helpdesk","messages":[],"temperature":1e999}',
    "huge integer": b'{"model":"helpdesk","messages":[],"max_tokens":' + b"9" * 10_000 + b"}",
    "lone surrogate": b'{"model":"helpdesk","messages":[{"role":"user","content":"\\ud800"}]}',
    "latin-1": '{"model":"helpdesk","messages":[{"role":"user","content":"é"}]}'.encode("latin-1"),
    "utf-16": json.dumps(CHAT).encode("utf-16"),
    "nul": b'{"model":"help\x00desk"}',
    "bom": b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
    "many keys": json.dumps({**CHAT, **{str(i): i for i in range(50_000)}}).encode(),
    "many messages": json.dumps({**CHAT, "messages": [{"role": "user", "content": ""}] * 5000}).encode(),
    "long model": json.dumps({**CHAT, "model": "m" * 100_000}).encode(),
    "path model": json.dumps({**CHAT, "model": "../../../etc/passwd"}).encode(),
    "unknown model": json.dumps({**CHAT, "model": "nobody", "prompt": "x", "input": "x"}).encode(),
}
WRONG_VALUES = [-1, 0, 1e308, 10**15, True, "x", "x" * 300_000, [], {}, [[]], {"a": 1}, None]
FIELDS = [
    *(
        "messages",
        "temperature",
        "top_p",
        "n",
        "stream",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "seed",
        "tools",
    ),
    *("tool_choice", "response_format", "logprobs", "top_logprobs", "logit_bias", "presence_penalty", "stream_options"),
    *("parallel_tool_calls", "grammar", "top_k", "min_p", "user", "metadata"),
]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home", parallel=1, queue=2)


@pytest.fixture
def app(settings, engine):
    with Store.open(settings.store) as store:
        add_model(store, "helpdesk")
        yield create_app(settings, store, engine=engine)


@pytest.fixture
def url(app):
    with live(app) as base:
        yield base


def test_bad_bodies_are_4xx_soon_in_shape_on_every_route(url: str):
    with httpx.Client(base_url=url, timeout=10) as client:
        for route in ROUTES:
            for name, body in BODIES.items():
                # Of this process, in which the server runs too: others may use the cores.
                began = time.process_time()
                answer = client.post(route, content=body, headers={"content-type": "application/json"})
                assert time.process_time() - began < 1, (route, name)
                assert 400 <= answer.status_code < 500, (route, name, answer.text)
                assert answer.json()["error"]["message"], (route, name)
        assert client.get("/health").status_code == 200


def test_wrong_values_in_every_field_are_no_5xx(url: str):
    with httpx.Client(base_url=url, timeout=10) as client:
        refused = 0
        for field in FIELDS:
            for value in WRONG_VALUES:
                began = time.process_time()
                answer = client.post("/v1/chat/completions", json={**CHAT, field: value})
                assert answer.status_code < 500, (field, str(value)[:50], answer.text)
                assert time.process_time() - began < 1, (field, str(value)[:50])
                refused += answer.status_code >= 400
        assert refused > 150


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_is_503_with_retry_after_and_works_again(app, url: str, engine: FakeEngine, stream: bool):
    engine.script = [Text("x")] * 1000
    engine.pause = 0.01
    answers: list[int] = []

    def ask() -> None:
        with (
            httpx.Client(base_url=url, timeout=30) as client,
            client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": stream}) as answer,
        ):
            answers.append(answer.status_code)
            leaving.wait(20)

    leaving = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    with httpx.Client(base_url=url, timeout=10) as client:
        wait_for(lambda: _busy(client) and app.state.desk.admission.waiting == 2)
        refused = client.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "server_busy"
        engine.script = [Text("x")]
        leaving.set()
        engine.pause = 0
        for thread in threads:
            thread.join(20)
        wait_for(lambda: client.post("/v1/chat/completions", json=CHAT).status_code == 200)


def _busy(client: httpx.Client) -> bool:
    return any(worker["busy"] for worker in client.get("/freehold/v1/workers").json()["workers"])


def test_leaving_clients_free_slot_and_queue(url: str, engine: FakeEngine):
    engine.script = [Text("x")] * 100_000
    engine.pause = 0.005
    with httpx.Client(base_url=url, timeout=10) as client:
        for _ in range(10):
            with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                next(answer.iter_lines())
        wait_for(lambda: not _busy(client), 2)
        assert len(engine.workers) == 1
        wait_for(lambda: engine.workers[0].cancelled == 10, 2)
        engine.script = [Text("done")]
        answer = client.post("/v1/chat/completions", json=CHAT)
        assert answer.json()["choices"][0]["message"]["content"] == "done"


def test_a_connection_cut_in_the_body_does_no_harm(url: str):
    host, port = url.removeprefix("http://").split(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for rest in (b"Content-Length: 1000\r\n\r\n{", b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"mod', b"\r\n"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + rest)
    with httpx.Client(base_url=url, timeout=10) as client:
        assert client.get("/health").status_code == 200
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_health_answers_while_requests_run_and_wait(url: str, engine: FakeEngine):
    engine.script = [Text("x")] * 200
    engine.pause = 0.005

    async def crowd() -> list[float]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            asking = [asyncio.create_task(client.post("/v1/chat/completions", json=CHAT)) for _ in range(3)]
            times = []
            for _ in range(20):
                began = time.monotonic()
                assert (await client.get("/health")).status_code == 200
                times.append(time.monotonic() - began)
            await asyncio.gather(*asking)
            return times

    assert sorted(asyncio.run(crowd()))[-2] < 0.25
