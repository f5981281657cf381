"""llama-server's routes that generate: decode, ask the desk, format."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from starlette.responses import Response

from freehold.core.errors import FreeholdError
from freehold.core.event import Event, Failed
from freehold.core.request import Request
from freehold.dialects.llamacpp import answers, chatting, mapping, translate
from freehold.dialects.llamacpp import schema as wire
from freehold.dialects.openai import answers as openai
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.http import EventStream, json_response, while_connected
from freehold.serving.routes import Incoming, Route

Events = AsyncGenerator[Event, None]


class _Chunks(Protocol):
    def feed(self, event: Event) -> Iterator[dict[str, Any]]: ...


async def completion(incoming: Incoming, desk: Desk) -> Response:
    """POST /completion: what follows a prompt."""
    return await _native(incoming, desk, await decoded(incoming.body, wire.CompletionRequest, nulls=False))


async def infill(incoming: Incoming, desk: Desk) -> Response:
    """POST /infill: what stands between two pieces of code."""
    return await _native(incoming, desk, await decoded(incoming.body, wire.InfillRequest, nulls=False))


async def _native(incoming: Incoming, desk: Desk, body: wire.CompletionRequest) -> Response:
    requests = await while_connected(incoming.gone, _requests(incoming, desk, body))
    answer = answers.Completion(
        requests[0].model,
        after_sampling=body.post_sampling_probs,
        return_tokens=body.return_tokens,
        progress=body.return_progress is True,
        fields=body.response_fields,
    )
    if body.stream:
        return await _streamed(incoming, _at_once(desk, requests), answer, b"")
    await while_connected(incoming.gone, _drained(_at_once(desk, requests), answer))
    return json_response(answer.whole(several=len(requests) * requests[0].n > 1))


async def completions(incoming: Incoming, desk: Desk) -> Response:
    """POST /v1/completions: the same as OpenAI words it."""
    body = await decoded(incoming.body, wire.CompletionRequest, nulls=False)
    requests = await while_connected(incoming.gone, _requests(incoming, desk, body))
    told = _at_once(desk, requests)
    if body.stream:
        usage = _usage_wanted(body)
        inner = openai.CompletionStream(requests[0].model, include_usage=usage)
        stream = chatting.Stream(inner, include_usage=usage)
        return await _streamed(incoming, told, stream, b"data: [DONE]\n\n")
    whole = chatting.Whole(openai.CompletionWhole(requests[0].model))
    return json_response(await while_connected(incoming.gone, _collected(told, whole)))


async def chat(incoming: Incoming, desk: Desk) -> Response:
    """POST /v1/chat/completions: the next message of a conversation."""
    body = await decoded(incoming.body, wire.ChatRequest, nulls=False)
    request = translate.chat_request(body, await mapping.model_of(incoming, desk, body.model))
    if not body.stream:
        return json_response(await while_connected(incoming.gone, _chat_body(desk, body, request)))
    usage = _usage_wanted(body)
    stream = chatting.Stream(openai.ChatStream(request.model, include_usage=usage), include_usage=usage)
    return await _streamed(incoming, desk.generate(request), stream, b"data: [DONE]\n\n")


async def predict(incoming: Incoming, desk: Desk) -> Response:
    """POST /predict: several chat completions, as Vertex AI asks for them."""
    bodies = (await decoded(incoming.body, wire.Instances, nulls=False)).instances
    asked = [
        (body, translate.chat_request(body, await mapping.model_of(incoming, desk, body.model))) for body in bodies
    ]

    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*(_chat_body(desk, body, request) for body, request in asked))

    return json_response({"predictions": await while_connected(incoming.gone, all_of_them())})


async def _chat_body(desk: Desk, body: wire.ChatRequest, request: Request) -> dict[str, Any]:
    verbose = None
    if body.verbose or (desk.sole is not None and desk.sole.verbose):
        verbose = {"prompt": await desk.prompt(request)}
    return await _collected(desk.generate(request), chatting.Whole(openai.ChatWhole(request.model), verbose))


async def _requests(incoming: Incoming, desk: Desk, body: wire.CompletionRequest) -> list[Request]:
    model = await mapping.model_of(incoming, desk, body.model)
    found = []
    for prompt in translate.prompts(body.prompt):
        request = translate.completion_request(body, model, *await mapping.illustrated(desk, model, prompt))
        found.append(await mapping.biased(desk, request, body.logit_bias))
    return found


def _usage_wanted(body: wire.CompletionRequest | wire.ChatRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage is True


async def _at_once(desk: Desk, requests: list[Request]) -> Events:
    """The events of several requests as they come, their choices numbered through."""
    if len(requests) == 1:
        async with aclosing(desk.generate(requests[0])) as events:
            async for event in events:
                yield event
        return
    queue: asyncio.Queue[Event | FreeholdError | None] = asyncio.Queue(64)

    async def one(number: int, request: Request) -> None:
        try:
            async with aclosing(desk.generate(request)) as events:
                async for event in events:
                    await queue.put(msgspec.structs.replace(event, index=event.index + number * request.n))
            await queue.put(None)
        except FreeholdError as error:
            await queue.put(error)

    tasks = [asyncio.create_task(one(number, request)) for number, request in enumerate(requests)]
    try:
        begun, left = False, len(tasks)
        while left:
            told = await queue.get()
            if isinstance(told, FreeholdError):
                if not begun:
                    raise told
                yield Failed(told)
                return
            if told is None:
                left -= 1
                continue
            begun = True
            yield told
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drained(told: Events, answer: _Chunks) -> None:
    async with aclosing(told) as events:
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            for _ in answer.feed(event):
                pass


async def _collected(told: Events, whole: chatting.Whole) -> dict[str, Any]:
    async with aclosing(told) as events:
        async for event in events:
            whole.feed(event)
    return whole.body()


async def _streamed(incoming: Incoming, told: Events, stream: _Chunks, mark: bytes) -> Response:
    first = await while_connected(incoming.gone, anext(told))
    return EventStream(_frames(first, told, stream, mark), told)


async def _frames(first: Event, rest: Events, stream: _Chunks, mark: bytes) -> AsyncGenerator[bytes, None]:
    """Server-sent events; a failure ends them without the closing mark."""
    for chunk in stream.feed(first):
        yield _frame(chunk)
    async for event in rest:
        for chunk in stream.feed(event):
            yield _frame(chunk)
        if isinstance(event, Failed):
            return
    if isinstance(stream, chatting.Stream):
        for chunk in stream.last():
            yield _frame(chunk)
    if mark:
        yield mark


def _frame(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


NATIVE = tuple(
    Route("POST", path, "infer", completion, "any", wire.CompletionRequest) for path in ("/completion", "/completions")
)
ROUTES = (
    *NATIVE,
    Route("POST", "/infill", "infer", infill, "any", wire.InfillRequest),
    Route("POST", "/v1/completions", "infer", completions, body=wire.CompletionRequest),
    Route("POST", "/chat/completions", "infer", chat, "any", wire.ChatRequest),
    Route("POST", "/v1/chat/completions", "infer", chat, body=wire.ChatRequest),
)
