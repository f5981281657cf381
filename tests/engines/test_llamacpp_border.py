"""What a worker answers is read as it is meant, and what cannot be read is the worker's failure and nobody else's."""

import asyncio
import copy
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.errors import (
    BadInput,
    BadModelFile,
    ContextOverflow,
    FreeholdError,
    Unsupported,
    WorkerFailed,
)
from freehold.core.event import Event, Failed, Finished, Reasoning, Started, Text, ToolCallPart, Usage
from freehold.core.request import Constraint, EmbedRequest, Message, Request, Sampling, Tool
from freehold.engines.llamacpp.client import LlamaWorker
from freehold.engines.llamacpp.engine import _ready
from freehold.engines.supervisor import Child
from tests.engines.fakeserver import ended, frame, plain, said, served, streamed
from tests.serving.support import in_loop, soon

CHAT, RAW, TEMPLATE = "/v1/chat/completions", "/v1/completions", "/apply-template"
ASK = Request(model="m", messages=(Message("user", "hi"),))
WEATHER = Tool("weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})
DEEP = b'{"a":' * 3000
NOT_JSON = [b"", b"<html>busy</html>", b"{", b"nul", b'{"a": "\xff"}', DEEP, b"\x00" * 40]
NO_OBJECT = [b"[]", b"5", b"null", b'"text"', b"true"]


async def told(worker: LlamaWorker, request: Request = ASK) -> list[Event]:
    return [event async for event in worker.generate(request)]


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


async def failure(worker: LlamaWorker, request: Request = ASK) -> FreeholdError:
    """The error that ends an answer; nothing comes after it."""
    events = await told(worker, request)
    assert isinstance(events[-1], Failed), events
    assert not any(isinstance(event, Failed | Finished) for event in events[:-1])
    return events[-1].error


QUESTIONS: dict[str, tuple[str, dict[str, Any], Callable[[LlamaWorker], Awaitable[Any]], Any]] = {
    "tokenize": ("/tokenize", {"tokens": [1, 2]}, lambda worker: worker.tokenize("a"), [1, 2]),
    "detokenize": ("/detokenize", {"content": "a\u2028b"}, lambda worker: worker.detokenize([1]), "a\u2028b"),
    "prompt": (TEMPLATE, {"prompt": "<u>hi"}, lambda worker: worker.prompt(ASK), "<u>hi"),
    "render": (TEMPLATE, {"prompt": ""}, lambda worker: worker.render(ASK), ""),
    "check": (TEMPLATE, {"prompt": "?"}, lambda worker: worker.check(Constraint("json")), None),
}


@pytest.mark.parametrize("question", QUESTIONS)
@in_loop
async def test_questions_are_answered(tmp_path: Path, question: str):
    route, answer, ask, found = QUESTIONS[question]
    async with served(tmp_path) as (fake, worker):
        fake.answers[route] = plain(answer)
        assert await ask(worker) == found


@pytest.mark.parametrize("question", QUESTIONS)
@in_loop
async def test_an_answer_of_another_form_is_the_workers_failure(tmp_path: Path, question: str):
    route, answer, ask, _ = QUESTIONS[question]
    (field,) = answer
    wrong = [{}, {"other": 1}, *({field: value} for value in (None, 5, {"a": 1}, [None], [[1]], True))]
    async with served(tmp_path) as (fake, worker):
        for body in [*NOT_JSON, *NO_OBJECT, *wrong]:
            fake.answers[route] = plain(body)
            with pytest.raises(WorkerFailed, match="answered nonsense") as caught:
                await ask(worker)
            assert len(caught.value.line()) < 400
            assert "\n" not in caught.value.line()


@pytest.mark.parametrize("question", QUESTIONS)
@in_loop
async def test_what_the_worker_refuses_keeps_its_kind(tmp_path: Path, question: str):
    route, _, ask, _ = QUESTIONS[question]
    async with served(tmp_path) as (fake, worker):
        for status, error, kind in [
            ("400 Bad Request", {"code": 400, "message": "no"}, BadInput),
            (
                "400 Bad Request",
                {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4},
                ContextOverflow,
            ),
            ("501 Not Implemented", {"type": "not_supported_error", "message": "no"}, Unsupported),
            ("500 Internal Server Error", {"code": 500, "message": "boom"}, WorkerFailed),
            ("503 Service Unavailable", "loading", WorkerFailed),
            ("302 Found", None, WorkerFailed),
        ]:
            fake.answers[route] = plain({"error": error}, status)
            with pytest.raises(kind):
                await ask(worker)


UNREADY = [b"", b"nonsense", b"[]", b'{"ready": 5}', b'{"ready": "\xff"}', DEEP, b'{"ready": ""}']


@pytest.mark.parametrize("line", UNREADY, ids=lambda line: repr(line[:12]))
@in_loop
async def test_what_a_worker_says_at_its_start_is_read_or_refused(tmp_path: Path, line: bytes):
    (tmp_path / "line").write_bytes(line + b"\n")
    child = Child(["/bin/sh", "-c", f"cat {tmp_path}/line; exit 3"], None, {}, "tiny")
    with pytest.raises((WorkerFailed, BadModelFile), match="tiny") as caught:
        await _ready(child, 10)
    await child.stop()
    assert len(caught.value.line()) < 300


PROPS = [
    {},
    {"default_generation_settings": None},
    {"default_generation_settings": {}},
    {"default_generation_settings": {"n_ctx": "many"}},
    {"default_generation_settings": {"n_ctx": 1.5}},
    {"default_generation_settings": {"n_ctx": 64}, "chat_template_caps": []},
]


@in_loop
async def test_a_worker_that_does_not_say_what_it_is_does_not_start(tmp_path: Path):
    async with served(tmp_path) as (fake, worker):
        assert worker.context_length == 64
        for body in [*NOT_JSON, *NO_OBJECT, *PROPS]:
            fake.answers["/props"] = plain(body)
            with pytest.raises(WorkerFailed):
                await worker.connect()
        fake.answers["/health"] = plain({"error": {"code": 503, "message": "Loading model"}}, "503 Service Unavailable")
        with pytest.raises(WorkerFailed, match="Loading model"):
            await worker.connect()


@pytest.mark.parametrize("caps", [{"supports_tools": False}, {}, None])
@in_loop
async def test_tools_are_told_in_words_unless_the_template_knows_them(tmp_path: Path, caps: Any):
    async with served(tmp_path) as (fake, worker):
        properties = {"default_generation_settings": {"n_ctx": 8}} | (
            {} if caps is None else {"chat_template_caps": caps}
        )
        fake.answers["/props"] = plain(properties)
        await worker.connect()
        fake.answers[TEMPLATE] = plain({"prompt": "p"})
        await worker.prompt(Request(model="m", messages=ASK.messages, tools=(WEATHER,)))
        (asked,) = fake.bodies(TEMPLATE)
        assert "tools" not in asked
        assert "weather" in asked["messages"][0]["content"]


ROWS = [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1.0, 0]}]
VECTORS = {"data": ROWS, "usage": {"prompt_tokens": 4}}


@in_loop
async def test_vectors_are_told_in_the_order_of_their_texts(tmp_path: Path):
    async with served(tmp_path, embedding=True) as (fake, worker):
        fake.answers["/v1/embeddings"] = plain(VECTORS)
        found = await worker.embed(EmbedRequest(model="m", inputs=("a", (1, 2))))
        assert (found.vectors, found.usage) == (((1.0, 0.0), (0.0, 1.0)), Usage(4))
        assert fake.bodies("/v1/embeddings")[0]["input"] == ["a", [1, 2]]


def spoiled(body: Any, values: tuple[Any, ...]) -> Iterator[Any]:
    """Copies of `body`, in each of which one value is another."""
    keys = list(body) if isinstance(body, dict) else range(len(body))
    for key in keys:
        for value in values:
            yield {**body, key: value} if isinstance(body, dict) else [*body[:key], value, *body[key + 1 :]]
        if isinstance(body[key], dict | list):
            for inner in spoiled(body[key], values):
                yield {**body, key: inner} if isinstance(body, dict) else [*body[:key], inner, *body[key + 1 :]]


@in_loop
async def test_vectors_that_are_none_or_too_few_are_nonsense(tmp_path: Path):
    texts = EmbedRequest(model="m", inputs=("a", "b"))
    async with served(tmp_path, embedding=True) as (fake, worker):
        for body in [*spoiled(VECTORS, (None, "x", {}))]:
            fake.answers["/v1/embeddings"] = plain(body)
            with pytest.raises(WorkerFailed, match="nonsense"):
                await worker.embed(texts)
        for rows in (ROWS[:1], [*ROWS, {"index": 2, "embedding": []}], ROWS[:1] * 2):
            fake.answers["/v1/embeddings"] = plain({**VECTORS, "data": rows})
            with pytest.raises(WorkerFailed, match="vectors for 2 inputs"):
                await worker.embed(texts)


@in_loop
async def test_each_worker_does_one_thing(tmp_path: Path):
    async with served(tmp_path) as (_, worker):
        with pytest.raises(Unsupported):
            await worker.embed(EmbedRequest(model="m", inputs=("a",)))
    async with served(tmp_path, embedding=True) as (fake, worker):
        assert isinstance(await failure(worker), Unsupported)
        with pytest.raises(Unsupported):
            await worker.score([1, 2])
        assert [path for path, _ in fake.asked] == ["/health", "/props"]


@in_loop
async def test_an_answer_becomes_events(tmp_path: Path):
    async with served(tmp_path) as (fake, worker):
        progress = {"choices": [], "prompt_progress": {"total": 7, "processed": 3}}
        fake.answers[CHAT] = streamed(progress, said("Hel"), said("lo"), ended(prompt_n=4, cache_n=3, predicted_n=2))
        assert await told(worker) == [Started(0, 7), Text("Hel"), Text("lo"), Finished("stop", Usage(7, 2, 3))]


ODD = "a\u2028b\u2029c\u0085d\x0be\x0c\x1cf é漢😀 \ufeff\u202e"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@in_loop
async def test_a_stream_in_pieces_of_any_size_says_the_same(tmp_path: Path, size: int):
    whole = streamed(said(ODD), said("\u2028"), ended())
    async with served(tmp_path) as (fake, worker):
        fake.answers[CHAT] = [whole[at : at + size] for at in range(0, len(whole), size)]
        events = await told(worker)
        assert text_of(events) == ODD + "\u2028"
        assert events[-1] == Finished("stop")


@in_loop
async def test_a_stream_that_ends_early_fails_after_what_it_said(tmp_path: Path):
    chunks = [said("a"), said("b"), ended()]
    async with served(tmp_path) as (fake, worker):
        for count in range(len(chunks)):
            for end in (b"", b"data: [DONE]\n\n", frame(chunks[count])[:-5], b"data: "):
                fake.answers[CHAT] = streamed(*chunks[:count], end=end)
                events = await told(worker)
                assert isinstance(events[-1], Failed)
                assert "ended its answer early" in events[-1].error.message
                assert text_of(events) == "ab"[:count]


@in_loop
async def test_each_choice_must_end(tmp_path: Path):
    async with served(tmp_path) as (fake, worker):
        fake.answers[CHAT] = streamed(said("a"), said("b", 1), ended(index=1))
        *_, finished, last = await told(worker, Request(model="m", messages=ASK.messages, n=2))
        assert isinstance(finished, Finished)
        assert isinstance(last, Failed)
        assert isinstance(last.error, WorkerFailed)


@pytest.mark.parametrize("data", [*NOT_JSON[1:], *NO_OBJECT], ids=lambda data: repr(data[:12]))
@in_loop
async def test_a_chunk_that_is_no_object_ends_the_answer(tmp_path: Path, data: bytes):
    async with served(tmp_path) as (fake, worker):
        fake.answers[CHAT] = streamed(said("a"), data, ended())
        events = await told(worker)
        assert text_of(events) == "a"
        assert isinstance(events[-1], Failed)
        assert isinstance(events[-1].error, WorkerFailed)


CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TOKEN = {"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": [{"token": "b", "bytes": [98], "logprob": -2.0}]}
RICH = {
    "choices": [
        {
            "index": 0,
            "delta": {"content": "a", "reasoning_content": "hm", "tool_calls": [CALL]},
            "logprobs": {"content": [TOKEN]},
            "finish_reason": "stop",
        }
    ],
    "timings": {"prompt_n": 1, "predicted_n": 2, "cache_n": 3, "prompt_ms": 1.5, "predicted_ms": 2.5},
    "prompt_progress": {"total": 4},
}


@in_loop
async def test_whatever_stands_in_a_chunk_the_answer_is_complete_or_failed(tmp_path: Path):
    """Each value of a chunk in turn is one of another kind. No exception but the errors that callers expect."""
    request = Request(model="m", messages=ASK.messages, logprobs=1)
    failed = 0
    async with served(tmp_path) as (fake, worker):
        for body in spoiled(copy.deepcopy(RICH), (None, 7, "x", ["y"])):
            fake.answers[CHAT] = streamed(body)
            events = await told(worker, request)
            assert isinstance(events[-1], Finished | Failed), body
            for event in events:
                if isinstance(event, Text | Reasoning):
                    assert isinstance(event.text, str), body
                if isinstance(event, ToolCallPart):
                    assert all(isinstance(each, str) for each in (event.id, event.name, event.arguments)), body
                if isinstance(event, Finished):
                    assert {type(count) for count in msgspec.structs.astuple(event.usage)} == {int}, body
                if isinstance(event, Failed):
                    assert isinstance(event.error, WorkerFailed), body
                    failed += 1
    assert failed > 40


@in_loop
async def test_a_choice_that_nobody_asked_for_is_nonsense(tmp_path: Path):
    async with served(tmp_path) as (fake, worker):
        for index in (1, 2, 10**12):
            fake.answers[CHAT] = streamed(said("a", index))
            assert "nonsense" in (await failure(worker)).message


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (plain({"error": {"code": 400, "message": "JSON schema error at #"}}, "400 Bad Request"), BadInput),
        (plain({"error": {"type": "exceed_context_size_error"}}, "400 Bad Request"), ContextOverflow),
        (plain(b"<html>", "500 Internal Server Error"), WorkerFailed),
        (plain(b"", "204 No Content"), WorkerFailed),
        (plain({"error": None}, "418 Teapot"), WorkerFailed),
        (streamed({"error": {"code": 500, "message": "boom"}}), WorkerFailed),
        (streamed(end=b'error: {"error": {"code": 400, "message": "too odd"}}\n\n'), BadInput),
        (streamed(said("a"), end=b'error: {"error": {"type": "not_supported_error"}}\n\n'), Unsupported),
    ],
)
@in_loop
async def test_a_refused_generation_keeps_its_kind(tmp_path: Path, answer: bytes, kind: type[FreeholdError]):
    async with served(tmp_path) as (fake, worker):
        fake.answers[CHAT] = answer
        assert type(await failure(worker)) is kind


BROKEN = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-",
    "less than promised": plain({"tokens": [1]}, content_length="900"),
    "a broken chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nda",
}


@pytest.mark.parametrize("name", BROKEN)
@in_loop
async def test_a_connection_that_breaks_is_the_workers_failure(tmp_path: Path, name: str):
    async with served(tmp_path) as (fake, worker):
        worker._child.kill()  # so that nobody waits for how it ends
        fake.answers[CHAT] = fake.answers["/tokenize"] = BROKEN[name]
        error = await failure(worker)
        assert isinstance(error, WorkerFailed)
        assert "was killed by signal 9" in error.message
        with pytest.raises(WorkerFailed, match="killed by signal 9"):
            await worker.tokenize("a")


@in_loop
async def test_a_death_within_an_answer_comes_after_what_was_said(tmp_path: Path):
    async with served(tmp_path) as (fake, worker):
        body = frame(said("a"))
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        fake.answers[CHAT] = head + f"{len(body):x}\r\n".encode() + body + b"\r\n40\r\nda"
        fake.hold.clear()
        async with aclosing(worker.generate(ASK)) as events:
            assert [await anext(events), await anext(events)] == [Started(0), Text("a")]
            worker._child._process.send_signal(signal.SIGKILL)
            fake.hold.set()
            (last,) = [event async for event in events]
        assert isinstance(last, Failed)
        assert "was killed by signal 9" in last.error.message
        assert not worker.alive


@in_loop
async def test_a_worker_that_nobody_listens_for_says_how_it_ended(tmp_path: Path):
    words = "echo '0.1 E no such tensor' >&2; exit 3"
    async with served(tmp_path, command=("sh", "-c", f"read line; read line; {words}")) as (_, worker):
        worker._child.tell("end")
        worker._socket.path.unlink()
        with pytest.raises(WorkerFailed, match=r"ended with 3: .*no such tensor"):
            await worker.tokenize("a")


@pytest.mark.parametrize("end", ["closed", "cancelled"])
@in_loop
async def test_who_leaves_closes_the_connection(tmp_path: Path, end: str):
    async with served(tmp_path) as (fake, worker):
        fake.answers[CHAT] = streamed(said("a"), end=b"")
        fake.hold.clear()
        if end == "closed":
            async with aclosing(worker.generate(ASK)) as events:
                await anext(events)
        else:
            task = asyncio.create_task(told(worker))
            await soon(lambda: fake.bodies(CHAT))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await soon(lambda: fake.left == 1)


@in_loop
async def test_more_choices_than_slots_are_asked_for_in_turn(tmp_path: Path):
    request = Request(model="m", messages=ASK.messages, n=5, sampling=Sampling(seed=10))
    async with served(tmp_path, slots=2) as (fake, worker):
        fake.answers[CHAT] = lambda body: streamed(
            *(said("ab"[index], index) for index in range(body["n"])),
            *(ended(index=index, prompt_n=6, predicted_n=1) for index in range(body["n"])),
        )
        events = await told(worker, request)
        asked = fake.bodies(CHAT)
        assert [(body["n"], body["seed"]) for body in asked] == [(2, 10), (2, 12), (1, 14)]
        finished = [event for event in events if isinstance(event, Finished)]
        assert [event.index for event in finished] == [0, 1, 2, 3, 4]
        assert sum((event.usage for event in finished), Usage()) == Usage(6, 5)
        assert [text_of(events, index) for index in range(5)] == ["a", "b", "a", "b", "a"]


@in_loop
async def test_an_answer_ends_its_connection_when_all_choices_have_met_a_stop(tmp_path: Path):
    request = Request(model="m", messages=ASK.messages, n=2, stop=("END",))
    async with served(tmp_path) as (fake, worker):
        fake.hold.clear()
        fake.answers[CHAT] = streamed(said("xE"), said("NDy"), said("more"), said("yEN", 1), said("D", 1), end=b"")
        events = await told(worker, request)
        assert [text_of(events, index) for index in range(2)] == ["x", "y"]
        finished = [event for event in events if isinstance(event, Finished)]
        assert [(event.index, event.reason, event.stop) for event in finished] == [
            (0, "stop", "END"),
            (1, "stop", "END"),
        ]
        assert fake.bodies(CHAT)[0]["stop"] == []
        await soon(lambda: fake.left == 1)


@in_loop
async def test_calls_in_pieces_are_told_as_they_come(tmp_path: Path):
    pieces = [
        {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": "Sã'}},
        {"index": 0, "function": {"arguments": 'o Paulo"}'}},
        {"index": 1, "id": "c2", "function": {"name": "weather", "arguments": "{}"}},
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]} for piece in pieces]
    for parallel in (True, False):
        request = Request(model="m", messages=ASK.messages, tools=(WEATHER,), parallel_tool_calls=parallel)
        async with served(tmp_path) as (fake, worker):
            fake.answers[CHAT] = streamed(*chunks, ended("tool_calls"))
            events = await told(worker, request)
            assert fake.bodies(CHAT)[0]["parallel_tool_calls"] is parallel
        parts = [event for event in events if isinstance(event, ToolCallPart)]
        assert "".join(part.arguments for part in parts if part.call == 0) == '{"city": "São Paulo"}'
        assert [part.id for part in parts if part.id] == (["c1", "c2"] if parallel else ["c1"])
        assert events[-1] == Finished("tool_calls")


@in_loop
async def test_a_call_that_must_be_made_is_read_from_raw_text(tmp_path: Path):
    request = Request(model="m", messages=ASK.messages, tools=(WEATHER,), tool_choice="weather")
    async with served(tmp_path) as (fake, worker):
        fake.answers[TEMPLATE] = plain({"prompt": "<u>hi<a>"})
        chunks = [{"choices": [{"index": 0, "text": piece}]} for piece in ('{"city"', ': "Ulm"}')]
        fake.answers[RAW] = streamed(*chunks, {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
        events = await told(worker, request)
        assert fake.bodies(RAW)[0]["prompt"] == '<u>hi<a>{"name": "weather", "arguments": '
        parts = [event for event in events if isinstance(event, ToolCallPart)]
        assert (parts[0].name, "".join(part.arguments for part in parts)) == ("weather", '{"city": "Ulm"}')
        assert events[-1] == Finished("tool_calls")


@in_loop
async def test_a_schema_that_does_not_compile_is_refused_before_anything_is_drawn(tmp_path: Path):
    request = Request(model="m", prompt="x", constraint=Constraint("schema", {"type": "nothing"}))
    async with served(tmp_path) as (fake, worker):
        message = "failed to parse: JSON schema error at #: unknown type"
        fake.answers[TEMPLATE] = plain({"error": {"code": 400, "message": message}}, "400 Bad Request")
        error = await failure(worker, request)
        assert isinstance(error, BadInput)
        assert error.message.startswith("JSON schema error")
        assert fake.bodies(RAW) == []


@in_loop
async def test_stopping_twice_is_fine_and_removes_the_socket(tmp_path: Path):
    async with served(tmp_path) as (_, worker):
        await worker.stop()
        assert not worker.alive
        assert not worker._socket.path.exists()
