"""OpenAI's routes: decode, ask the desk, format."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import Busy, FreeholdError
from freehold.core.event import Failed
from freehold.dialects.openai import (
    answers,
    asking,
    batches,
    echo,
    files,
    fine_tuning,
    moderations,
    refused,
    schema,
    stored,
    translate,
    uploads,
)
from freehold.dialects.openai.asking import Events
from freehold.dialects.openai.responses import routes as responses
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk, Opened
from freehold.serving.http import EventStream, json_response, while_connected
from freehold.serving.routes import Dialect, Incoming, Route


def error_response(error: FreeholdError) -> Response:
    """An error in OpenAI's shape."""
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Busy) else {}
    if error.status == 501:  # clients take it for something that may pass, and would ask twice more
        headers["x-should-retry"] = "false"
    return json_response(answers.error_body(error), error.status, headers)


async def list_models(incoming: Incoming, desk: Desk) -> Response:
    """GET /models: the models."""
    return json_response({"object": "list", "data": [answers.model_body(entry) for entry in await desk.models()]})


async def get_model(incoming: Incoming, desk: Desk) -> Response:
    """GET /models/{id}: one model; a slash in the id may be percent-encoded."""
    return json_response(answers.model_body(await desk.model(incoming.path["model"])))


async def delete_model(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /models/{id}: forget one."""
    entry = await desk.model(incoming.path["model"])
    await desk.forget(entry.name)
    return json_response({"id": incoming.path["model"], "object": "model", "deleted": True})


async def chat(incoming: Incoming, desk: Desk) -> Response:
    """POST /chat/completions: the next message of a conversation."""
    body = await decoded(incoming.body, schema.ChatRequest)
    request = translate.chat_request(body)
    if body.stream:
        stream = answers.ChatStream(body.model, include_usage=_usage_wanted(body))
        return await _streamed(incoming, stored.events(desk, body, request, stream.head), stream)
    answer = answers.ChatWhole(body.model)
    return await _whole(incoming, stored.events(desk, body, request, answer.head), answer)


async def completions(incoming: Incoming, desk: Desk) -> Response:
    """POST /completions: what follows a prompt."""
    body = await decoded(incoming.body, schema.CompletionRequest)
    requests = translate.completion_requests(body)
    ask = partial(echo.completed, desk, echo=body.echo is True, silent=body.max_tokens == 0)
    if body.stream:
        stream = answers.CompletionStream(body.model, include_usage=_usage_wanted(body))
        return await _streamed(incoming, asking.in_turn(ask, requests), stream)
    return await _whole(incoming, asking.in_turn(ask, requests), answers.completion_whole(body, translate.drawn(body)))


async def embeddings(incoming: Incoming, desk: Desk) -> Response:
    """POST /embeddings: a vector for each text."""
    body = await decoded(incoming.body, schema.EmbeddingRequest)
    request = translate.embed_request(body)
    return json_response(asking.vectors(await while_connected(incoming.gone, desk.embed(request)), body))


def _usage_wanted(body: schema.ChatRequest | schema.CompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage is True


async def _whole(incoming: Incoming, told: Events, answer: answers.Whole) -> Response:
    return json_response(await while_connected(incoming.gone, asking.whole(told, answer)))


async def _streamed(incoming: Incoming, told: Events, stream: answers.Stream) -> Response:
    opened = await while_connected(incoming.gone, _opened(told))
    return EventStream(_frames(opened, stream), opened.rest)


async def _opened(events: Events) -> Opened:
    return Opened(await anext(events), events)


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
        Route("DELETE", "/models/{model:path}", "manage", delete_model),
        Route("POST", "/chat/completions", "infer", chat, body=schema.ChatRequest),
        Route("POST", "/completions", "infer", completions, body=schema.CompletionRequest),
        Route("POST", "/embeddings", "infer", embeddings, body=schema.EmbeddingRequest),
        *stored.ROUTES,
        *responses.ROUTES,
        *files.ROUTES,
        *uploads.ROUTES,
        *batches.ROUTES,
        *fine_tuning.ROUTES,
        *moderations.ROUTES,
        *refused.ROUTES,
    ),
    error=error_response,
    batches=(batches.KIND,),
)
