"""Anthropic's routes: decode, ask the desk, format."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import Busy, FreeholdError
from freehold.dialects.anthropic import answers, asking, batches, files, pages, schema, translate
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk, Opened
from freehold.serving.http import EventStream, json_response, while_connected
from freehold.serving.routes import Dialect, Incoming, Route


def error_response(error: FreeholdError) -> Response:
    """An error in Anthropic's shape."""
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Busy) else None
    return json_response(answers.error_body(error), error.status, headers)


def claims(headers: Mapping[str, str]) -> bool:
    """Whether one of Anthropic's clients asks: no other sends this header."""
    return "anthropic-version" in headers


async def messages(incoming: Incoming, desk: Desk) -> Response:
    """POST /messages: the next message of a conversation."""
    body = await decoded(incoming.body, schema.MessagesRequest)
    await files.filled(desk, body)
    request = translate.messages_request(body)
    answer = answers.Answer(body.model)
    if body.stream:
        opened = await while_connected(incoming.gone, desk.open(request))
        return EventStream(_frames(opened, answer), opened.rest)
    return json_response(await while_connected(incoming.gone, asking.whole(desk, request, answer)))


async def count_tokens(incoming: Incoming, desk: Desk) -> Response:
    """POST /messages/count_tokens: how many tokens a prompt has."""
    body = await decoded(incoming.body, schema.Prompt)
    await files.filled(desk, body)
    request = translate.prompt_request(body)
    return json_response({"input_tokens": await while_connected(incoming.gone, desk.count(request))})


async def list_models(incoming: Incoming, desk: Desk) -> Response:
    """GET /models: the models, a page at a time."""
    entries = await desk.models()
    page, more = pages.page(incoming.query, entries, lambda entry: str(entry.name))
    return json_response(answers.models_body(page, more))


async def get_model(incoming: Incoming, desk: Desk) -> Response:
    """GET /models/{id}: one model."""
    return json_response(answers.model_body(await desk.model(incoming.path["model"])))


async def _frames(opened: Opened, answer: answers.Answer) -> AsyncGenerator[bytes, None]:
    """Named events; a failure is one too, and the last."""
    try:
        for frame in _encoded(answer.feed(opened.first)):
            yield frame
        async for event in opened.rest:
            for frame in _encoded(answer.feed(event)):
                yield frame
    except FreeholdError as error:
        for frame in _encoded([answers.error_body(error)]):
            yield frame


def _encoded(events: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for event in events:
        yield b"event: " + event["type"].encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


DIALECT = Dialect(
    name="anthropic",
    mounts=("/v1", "/anthropic/v1"),
    routes=(
        Route("POST", "/messages", "infer", messages, body=schema.MessagesRequest),
        Route("POST", "/messages/count_tokens", "infer", count_tokens, body=schema.Prompt),
        *batches.ROUTES,
        *files.ROUTES,
        Route("GET", "/models", "read", list_models),
        Route("GET", "/models/{model:path}", "read", get_model),
    ),
    error=error_response,
    claims=claims,
    batches=(batches.KIND,),
)
