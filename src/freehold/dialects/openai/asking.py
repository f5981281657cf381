"""Asking the desk for whole answers: for requests that somebody waits for, and for the rows of batches."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.event import Embeddings, Event, Failed, Usage
from freehold.core.request import Request
from freehold.dialects.openai import answers, echo, schema, translate
from freehold.serving.batches import ROW_SECONDS, Answer
from freehold.serving.decoding import converted
from freehold.serving.desk import Desk

Events = AsyncGenerator[Event, None]


async def in_turn(ask: Callable[[Request], Events], requests: list[Request]) -> Events:
    """The events of several requests, one after the other, their choices numbered through."""
    for number, request in enumerate(requests):
        try:
            async with aclosing(ask(request)) as events:
                async for event in events:
                    yield msgspec.structs.replace(event, index=event.index + number * request.n) if number else event
        except FreeholdError as error:
            if number == 0:
                raise
            yield Failed(error, number * request.n)
            return


async def whole(told: Events, answer: answers.Whole) -> dict[str, Any]:
    """The answer that these events make."""
    async with aclosing(told) as events:
        async for event in events:
            answer.feed(event)
    return answer.body()


def vectors(found: Embeddings, body: schema.EmbeddingRequest) -> dict[str, Any]:
    """The answer that these vectors make. Raises Unsupported for vectors of another length than is wanted."""
    length = len(found.vectors[0])
    if body.dimensions not in (None, length):
        raise Unsupported(f"this model's vectors have {length} dimensions", "Leave out dimensions", param="dimensions")
    return answers.embeddings_body(found, body.model, body.encoding_format == "base64")


async def row(desk: Desk, endpoint: str, value: dict[str, Any]) -> Answer:
    """The whole answer to what would be a body sent to one of the ENDPOINTS. Raises FreeholdError."""
    return await ENDPOINTS[endpoint](desk, value)


async def _chat(desk: Desk, value: dict[str, Any]) -> Answer:
    body = converted(value, schema.ChatRequest)
    _refuse_streams(body)
    answer = answers.ChatWhole(body.model)
    told = await whole(in_turn(desk.generate, [_patient(translate.chat_request(body))]), answer)
    return Answer(told, answer.usage)


async def _completion(desk: Desk, value: dict[str, Any]) -> Answer:
    body = converted(value, schema.CompletionRequest)
    _refuse_streams(body)
    answer = answers.completion_whole(body, translate.drawn(body))
    ask = partial(echo.completed, desk, echo=body.echo is True, silent=body.max_tokens == 0)
    told = await whole(in_turn(ask, [_patient(each) for each in translate.completion_requests(body)]), answer)
    return Answer(told, answer.usage)


async def _embeddings(desk: Desk, value: dict[str, Any]) -> Answer:
    body = converted(value, schema.EmbeddingRequest)
    request = msgspec.structs.replace(translate.embed_request(body), deadline=ROW_SECONDS)
    found = await desk.embed(request)
    return Answer(vectors(found, body), Usage(found.usage.prompt_tokens))


def _refuse_streams(body: schema.ChatRequest | schema.CompletionRequest) -> None:
    if body.stream:
        raise BadInput("a row of a batch is not answered as a stream", "Leave out stream", param="stream")


def _patient(request: Request) -> Request:
    return msgspec.structs.replace(request, deadline=ROW_SECONDS)


ENDPOINTS: dict[str, Callable[[Desk, dict[str, Any]], Awaitable[Answer]]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embeddings,
}
"""What the rows of a batch may ask for."""
