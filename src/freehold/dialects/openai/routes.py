"""OpenAI's routes: decode, ask the desk, format."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import Busy, FreeholdError, Unsupported
from freehold.core.event import Event, Failed
from freehold.core.request import Request
from freehold.dialects.openai import answers, echo, schema, translate
from freehold.dialects.openai.responses import routes as responses
from freehold.serving.decoding import decode
from freehold.serving.desk import Desk, Opened
from freehold.serving.http import EventStream, json_response, while_connected
from freehold.serving.routes import Dialect, Incoming, Route

Events = AsyncGenerator[Event, None]


def error_response(error: FreeholdError) -> Response:
    """An error in OpenAI's shape."""
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Busy) else None
    return json_response(answers.error_body(error), error.status, headers)


async def list_models(incoming: Incoming, desk: Desk) -> Response:
    """GET /models."""
    return json_response({"object": "list", "data": [answers.model_body(entry) for entry in await desk.models()]})


async def get_model(incoming: Incoming, desk: Desk) -> Response:
    """GET /models/{id}; a slash in the id may be percent-encoded."""
    return json_response(answers.model_body(await desk.model(incoming.path["model"])))


async def chat(incoming: Incoming, desk: Desk) -> Response:
    """POST /chat/completions."""
    body = decode(incoming.body, schema.ChatRequest)
    request = translate.chat_request(body)
    if body.stream:
        stream = answers.ChatStream(body.model, include_usage=_usage_wanted(body))
        return await _streamed(incoming, _in_turn(desk.generate, [request]), stream)
    return await _whole(incoming, _in_turn(desk.generate, [request]), answers.ChatWhole(body.model))


async def completions(incoming: Incoming, desk: Desk) -> Response:
    """POST /completions."""
    body = decode(incoming.body, schema.CompletionRequest)
    requests = translate.completion_requests(body)
    ask = partial(echo.completed, desk, echo=body.echo is True, silent=body.max_tokens == 0)
    if body.stream:
        stream = answers.CompletionStream(body.model, include_usage=_usage_wanted(body))
        return await _streamed(incoming, _in_turn(ask, requests), stream)
    return await _whole(incoming, _in_turn(ask, requests), answers.CompletionWhole(body.model))


async def embeddings(incoming: Incoming, desk: Desk) -> Response:
    """POST /embeddings."""
    body = decode(incoming.body, schema.EmbeddingRequest)
    found = await while_connected(incoming.gone, desk.embed(translate.embed_request(body)))
    length = len(found.vectors[0])
    if body.dimensions not in (None, length):
        raise Unsupported(f"this model's vectors have {length} dimensions", "Leave out dimensions", param="dimensions")
    return json_response(answers.embeddings_body(found, body.model, body.encoding_format == "base64"))


def _usage_wanted(body: schema.ChatRequest | schema.CompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage is True


async def _whole(incoming: Incoming, told: Events, answer: answers.Whole) -> Response:
    async def collect() -> dict[str, Any]:
        async with aclosing(told) as events:
            async for event in events:
                answer.feed(event)
        return answer.body()

    return json_response(await while_connected(incoming.gone, collect()))


async def _streamed(incoming: Incoming, told: Events, stream: answers.Stream) -> Response:
    opened = await while_connected(incoming.gone, _opened(told))
    return EventStream(_frames(opened, stream), opened.rest)


async def _opened(events: Events) -> Opened:
    return Opened(await anext(events), events)


async def _in_turn(ask: Callable[[Request], Events], requests: list[Request]) -> Events:
    """The events of several requests, one after the other, their choices numbered through."""
    for number, request in enumerate(requests):
        try:
            async with aclosing(ask(request)) as events:
                async for event in events:
                    yield msgspec.structs.replace(event, index=event.index + number * request.n)
        except FreeholdError as error:
            if number == 0:
                raise
            yield Failed(error, number * request.n)
            return


async def _frames(opened: Opened, stream: answers.Stream) -> AsyncGenerator[bytes, None]:
    """Server-sent events; a failure ends them without the closing mark, so that no client takes it for an answer."""
    for frame in _encoded(stream.feed(opened.first)):
        yield frame
    async for event in opened.rest:
        for frame in _encoded(stream.feed(event)):
            yield frame
        if isinstance(event, Failed):
            return
    for frame in _encoded(stream.last()):
        yield frame
    yield b"data: [DONE]\n\n"


def _encoded(chunks: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for chunk in chunks:
        yield b"data: " + msgspec.json.encode(chunk) + b"\n\n"


DIALECT = Dialect(
    name="openai",
    mounts=("/v1", "/openai/v1"),
    routes=(
        Route("GET", "/models", "read", list_models),
        Route("GET", "/models/{model:path}", "read", get_model),
        Route("POST", "/chat/completions", "infer", chat),
        Route("POST", "/completions", "infer", completions),
        Route("POST", "/embeddings", "infer", embeddings),
        *responses.ROUTES,
    ),
    error=error_response,
)
