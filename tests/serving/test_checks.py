"""Whatever dialect brings what has to be compiled, it is checked before it waits for a worker; nothing else is."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from freehold.core.errors import BadInput, RateLimited
from freehold.core.request import Constraint, Message, Request
from freehold.core.settings import Settings
from freehold.engines.llamacpp import LlamaCpp
from freehold.guard.caller import Caller, asking
from freehold.serving import checks
from freehold.serving.app import create_app
from freehold.serving.checks import Checks
from freehold.store import Store
from tests.dialects.test_openai_batches import begin, ended, lines_of, row
from tests.engines.grammars import ENDLESS, SCHEMAS
from tests.serving.support import FakeEngine, add_gguf, add_model, in_loop, live, soon
from tests.tiny import write_gguf

USER = [{"role": "user", "content": "?"}]
SCHEMA = SCHEMAS["an object"]
GRAMMAR = 'root ::= "a"'
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai response_format": ("/v1/chat/completions", {"messages": USER, "response_format": FORM}),
    "openai json_object": ("/v1/chat/completions", {"messages": USER, "response_format": {"type": "json_object"}}),
    "openai tools": ("/v1/chat/completions", {"messages": USER, "tools": [FUNCTION]}),
    "openai stream": ("/v1/chat/completions", {"messages": USER, "response_format": FORM, "stream": True}),
    "openai grammar": ("/v1/chat/completions", {"messages": USER, "grammar": GRAMMAR}),
    "openai completions": ("/v1/completions", {"prompt": "?", "grammar": GRAMMAR}),
    "openai responses": (
        "/v1/responses",
        {"input": "?", "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
    ),
    "openai responses' tools": (
        "/v1/responses",
        {"input": "?", "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]},
    ),
    "ollama format": ("/api/chat", {"messages": USER, "format": SCHEMA, "stream": False}),
    "ollama generate": ("/api/generate", {"prompt": "?", "format": "json", "stream": False}),
    "ollama tools": ("/api/chat", {"messages": USER, "tools": [FUNCTION], "stream": False}),
    "llama.cpp json_schema": ("/llama/completion", {"prompt": "?", "json_schema": SCHEMA}),
    "llama.cpp grammar": ("/llama/completion", {"prompt": "?", "grammar": GRAMMAR}),
    "llama.cpp infill": ("/llama/infill", {"input_prefix": "a", "input_suffix": "b", "grammar": GRAMMAR}),
    "llama.cpp template": ("/llama/apply-template", {"messages": USER, "tools": [FUNCTION]}),
    "anthropic tools": (
        "/v1/messages",
        {"messages": USER, "max_tokens": 5, "tools": [{"name": "f", "input_schema": SCHEMA}]},
    ),
    "anthropic output": (
        "/v1/messages",
        {"messages": USER, "max_tokens": 5, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    "anthropic count": (
        "/v1/messages/count_tokens",
        {"messages": USER, "tools": [{"name": "f", "input_schema": SCHEMA}]},
    ),
}


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_every_way_is_checked_and_refused_in_its_dialect(settings: Settings, store: Store, way: str):
    add_model(store, "m")
    engine = FakeEngine()
    engine.check_error = BadInput("the grammar is a bomb", "Defuse it", param="grammar")
    path, body = WAYS[way]
    app = create_app(settings, store, engine=engine)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:6464") as client:
        headers = {"anthropic-version": "2023-06-01"} if "anthropic" in way else {}
        answer = await client.post(path, json={"model": "m", **body}, headers=headers)
    assert answer.status_code == 400, answer.text
    assert "the grammar is a bomb" in answer.text
    assert len(engine.checked) == 1
    assert engine.checked[0].constraint or engine.checked[0].tools
    assert engine.workers == [], "no worker was started for it"


@in_loop
async def test_a_request_with_nothing_to_compile_passes_those_that_wait():
    engine = FakeEngine()
    engine.checking.clear()
    settings = Settings(home=Path("/nowhere"))
    line = Checks(engine)
    waiting = [asyncio.create_task(line.check(_asking(i), settings)) for i in range(3)]
    await soon(lambda: engine.checked)
    await line.check(Request(model="m", messages=(Message("user", "?"),)), settings)
    assert len(engine.checked) == 1, "of one client, one at a time"
    other = asyncio.create_task(_as("another", line.check(_asking(9), settings)))
    await soon(lambda: len(engine.checked) == 2)
    engine.checking.set()
    await asyncio.gather(*waiting, other)
    assert len(engine.checked) == 4


@in_loop
async def test_one_client_may_have_so_many_wait():
    engine = FakeEngine()
    engine.checking.clear()
    settings = Settings(home=Path("/nowhere"))
    line = Checks(engine)
    waiting = [asyncio.create_task(line.check(_asking(i), settings)) for i in range(checks.WAITING)]
    await soon(lambda: engine.checked)
    with pytest.raises(RateLimited, match="wait for their grammars"):
        await line.check(_asking(1), settings)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    engine.checking.set()
    await line.check(_asking(1), settings)


def _asking(number: int) -> Request:
    return Request(model="m", prompt="?", constraint=Constraint("grammar", grammar=f'root ::= "{number}"'))


async def _as(who: str, checking: Any) -> None:
    asking.set(Caller(who))
    await checking


@pytest.fixture
def real(tmp_path: Path, settings: Settings, store: Store) -> Iterator[str]:
    """The address of a server with llama.cpp and a tiny model."""
    add_gguf(store, "m", write_gguf(tmp_path / "tiny.gguf"))
    given = msgspec.structs.replace(settings, grammar_seconds=0.1, threads=1)
    with live(create_app(given, store, engine=LlamaCpp())) as address:
        yield address


def test_a_bomb_is_refused_while_another_client_is_answered(real: str):
    chat = f"{real}/v1/chat/completions"
    body = {"model": "m", "messages": USER, "max_tokens": 400}
    held = {**body, "response_format": FORM, "temperature": 0}
    assert json.loads(httpx.post(chat, json=held, timeout=60).json()["choices"][0]["message"]["content"])["city"]
    with httpx.stream("POST", chat, json={**body, "stream": True, "logit_bias": {"0": -100, "2": -100}}) as stream:
        lines = stream.iter_lines()
        next(lines)
        for name in ("a chain of stars", "rules that double", "many alternatives"):
            refused = httpx.post(chat, json={**body, "grammar": ENDLESS[name]}, timeout=60)
            assert refused.status_code == 400, refused.text
            assert "takes more than 0.1 s" in refused.json()["error"]["message"]
        good = httpx.post(chat, json=held, timeout=60)
        assert good.status_code == 200
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_tools_are_checked_too(real: str):
    pattern = {"type": "string", "pattern": "^((a?){50}){50}$"}
    bomb = {"name": "f", "parameters": {"type": "object", "properties": {"x": pattern}}}
    body = {"model": "m", "messages": USER, "tools": [{"type": "function", "function": bomb}]}
    refused = httpx.post(f"{real}/v1/chat/completions", json=body, timeout=60)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "tools"


def test_a_bomb_in_a_batch_fails_its_own_row(real: str):
    with httpx.Client(base_url=real, timeout=60) as client:
        held = {"model": "m", "messages": USER, "max_tokens": 400, "response_format": FORM, "temperature": 0}
        bomb = {"model": "m", "messages": USER, "grammar": ENDLESS["a chain of stars"]}
        made = begin(client, [row("before", held), row("bomb", bomb), row("after", held)])
        done = ended(client, made["id"], 60)
        assert done["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
        answers = lines_of(client, done["output_file_id"])
        assert [each["custom_id"] for each in answers] == ["before", "after"]
        [failed] = lines_of(client, done["error_file_id"])
        assert failed["custom_id"] == "bomb"
        assert "takes more than 0.1 s" in json.dumps(failed)
