"""A body in pieces, streams of lines, orders to stop: what comes in is bounded in time and in form."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from freehold.core.errors import BadInput, FreeholdError, Timeout, UnsupportedMedia
from freehold.core.request import EmbedRequest, Message, Request, ToolCall
from freehold.core.settings import Settings
from freehold.serving import fitting
from freehold.serving.app import create_app
from freehold.serving.engine import Lazy
from freehold.serving.http import LineStream, json_response, read_chunks
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop
from tests.serving.test_fitting import worker
from tests.serving.test_http import _never, _piece, _request


async def pieces(request: Any, seconds: float = 5.0) -> list[bytes]:
    return [piece async for piece in read_chunks(request, seconds)]


@in_loop
async def test_pieces_come_as_they_are_sent():
    sent = [_piece(b"ab"), _piece(b""), _piece(b"c" * 70_000), _piece(b"d", more=False)]
    assert b"".join(await pieces(_request(*sent))) == b"ab" + b"c" * 70_000 + b"d"
    assert b"".join(await pieces(_request(_piece(b"", more=False)))) == b""


@in_loop
async def test_each_piece_has_a_deadline_of_its_own():
    request, waiting = _request(_piece(b"a"), _piece(b"b")), []

    async def slowly() -> None:
        async for piece in read_chunks(request, 0.05):
            waiting.append(piece)
            await asyncio.sleep(0.06)  # what the reader takes is not the client's time

    with pytest.raises(Timeout, match="nothing more"):
        await slowly()
    assert waiting == [b"a", b"b"]


@in_loop
async def test_a_client_that_leaves_between_pieces():
    with pytest.raises(BadInput, match="left"):
        await pieces(_request(_piece(b"a"), {"type": "http.disconnect"}))


@pytest.mark.parametrize("encoding", ["gzip", "br", "x", "identity, gzip"])
@in_loop
async def test_compressed_pieces_are_refused_unread(encoding: str):
    with pytest.raises(UnsupportedMedia):
        await pieces(_request(_piece(b"a", more=False), headers={"content-encoding": encoding}))
    assert await pieces(_request(_piece(b"a", more=False), headers={"content-encoding": "Identity"}))


@in_loop
async def test_lines_say_what_they_are():
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def lines() -> Any:
        yield b'{"a":1}\n'

    await LineStream(lines())({"type": "http"}, _never, send)
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"application/x-ndjson")
    assert b"content-length" not in headers
    assert headers[b"cache-control"] == b"no-store"
    assert b"".join(each["body"] for each in sent[1:]) == b'{"a":1}\n'


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_an_answer_in_one_piece_reads_back(value: Any):
    answer = json_response(value, 418, {"retry-after": "3"})
    assert json.loads(answer.body) == value
    assert (answer.status_code, answer.headers["retry-after"]) == (418, "3")
    assert int(answer.headers["content-length"]) == len(answer.body)


ORDERS = [
    (b"{}", 400),
    (b'{"model": null}', 400),
    (b'{"all": false}', 400),
    (b'{"all": "yes"}', 400),
    (b'{"model": 5}', 400),
    (b'{"model": "helpdesk", "force": true}', 400),
    (b'{"model": "a", "model": "b"}', 400),
    (b"[]", 400),
    (b"", 400),
    (b'{"model": "\xff"}', 400),
    (b'{"model": ""}', 404),
    (b'{"model": "nope"}', 404),
    (b'{"model": "../../etc"}', 404),
    (b'{"model": "ollama::nope"}', 404),
    (b'{"model": "helpdesk"}', 200),
    (b'{"all": true}', 200),
    (b'{"model": "helpdesk", "all": true}', 200),
]


@in_loop
async def test_an_order_to_stop_is_understood_or_refused(settings: Settings, store: Store):
    add_model(store, "helpdesk")
    app = create_app(settings, store, engine=FakeEngine())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for body, status in ORDERS:
            headers = {"content-type": "application/json"}
            answer = await client.post("/freehold/v1/workers/stop", content=body, headers=headers)
            assert answer.status_code == status, body
            if status == 200:
                assert answer.json() == {"stopped": 0}
            else:
                assert set(answer.json()["error"]) == {"code", "message", "remedy"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@in_loop
async def test_an_order_to_stop_is_given_in_one_way(settings: Settings, store: Store, method: str):
    app = create_app(settings, store, engine=FakeEngine())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer = await client.request(method, "/freehold/v1/workers/stop")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


ROLES = st.sampled_from(["system", "user", "assistant"])
TURNS = st.lists(st.tuples(ROLES, st.integers(0, 6)), min_size=1, max_size=7)


@hypothesis_settings(max_examples=60)
@given(TURNS, st.integers(1, 40), st.none() | st.integers(1, 50))
def test_as_few_turns_go_as_have_to(turns: list[tuple[Any, int]], context: int, wanted: int | None):
    messages = tuple(Message(role, " ".join(["w"] * count)) for role, count in turns)
    request = Request(model="m", messages=messages, max_tokens=wanted)
    model = worker(context)
    limit = context - min(wanted or context, context // 8)

    async def size(kept: Request) -> int:
        return len(await model.tokenize(await model.prompt(kept)))

    async def check() -> None:
        shorter = await fitting.conversation(model, request)
        removable = [place for place, each in enumerate(messages[:-1]) if each.role != "system"]
        gone = len(messages) - len(shorter.messages)
        assert shorter == fitting._without(request, removable[:gone]), "the oldest go, and nothing else changes"
        assert gone == len(removable) or await size(shorter) <= limit
        assert gone == 0 or await size(fitting._without(request, removable[: gone - 1])) > limit

    asyncio.run(check())


@hypothesis_settings(max_examples=60)
@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 9))
def test_texts_are_cut_to_the_context_and_others_left_alone(lengths: list[int], context: int):
    texts = (*(" ".join(["w"] * length) or "w" for length in lengths), (1,) * 12)
    model = worker(context)
    found = asyncio.run(fitting.texts(model, EmbedRequest(model="m", inputs=texts)))
    for given_text, kept in zip(texts, found.inputs, strict=True):
        tokens = asyncio.run(model.tokenize(given_text)) if isinstance(given_text, str) else list(given_text)
        if len(tokens) <= context:
            assert kept == given_text
        else:
            assert kept == tuple(tokens[:context])


def test_answers_of_tools_whose_calls_are_gone_go_too():
    calls = tuple(ToolCall(f"c{number}", "f", "{}") for number in range(3))
    messages = (
        Message("assistant", "", tool_calls=calls[:2]),
        Message("tool", "0", tool_call_id="c0"),
        Message("assistant", "", tool_calls=calls[2:]),
        Message("tool", "1", tool_call_id="c1"),
        Message("tool", "2", tool_call_id="c2"),
        Message("tool", "of nobody"),
        Message("user", "so?"),
    )
    kept = fitting._without(Request(model="m", messages=messages), [0]).messages
    assert [each.content for each in kept if each.role == "tool"] == ["2", "of nobody"]


@in_loop
async def test_the_default_engine_is_loaded_when_it_is_asked_and_refuses_what_is_no_model(settings: Settings, tmp_path):
    from freehold.engines.base import ModelFile

    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    lazy, model = Lazy(), ModelFile(tmp_path / "m.gguf", "m")
    with pytest.raises(FreeholdError):
        lazy.fits(model, settings)
    with pytest.raises(FreeholdError):
        await lazy.start(model, settings)
    assert lazy.name == "llamacpp"
