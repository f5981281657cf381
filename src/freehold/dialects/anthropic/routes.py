"""Anthropic's routes: decode, ask the desk, format."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import BadInput, Busy, FreeholdError
from freehold.core.request import Request
from freehold.dialects.anthropic import answers, schema, translate
from freehold.serving.decoding import decode
from freehold.serving.desk import Desk, Opened
from freehold.serving.http import EventStream, json_response, while_connected
from freehold.serving.routes import Dialect, Incoming, Route

_PAGE, _MOST = 20, 1000


def error_response(error: FreeholdError) -> Response:
    """An error in Anthropic's shape."""
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Busy) else None
    return json_response(answers.error_body(error), error.status, headers)


def claims(headers: Mapping[str, str]) -> bool:
    """Whether one of Anthropic's clients asks: no other sends this header."""
    return "anthropic-version" in headers


async def messages(incoming: Incoming, desk: Desk) -> Response:
    """POST /messages: the next message of a conversation."""
    body = decode(incoming.body, schema.MessagesRequest)
    request = translate.messages_request(body)
    answer = answers.Answer(body.model)
    if body.stream:
        opened = await while_connected(incoming.gone, desk.open(request))
        return EventStream(_frames(opened, answer), opened.rest)
    return json_response(await while_connected(incoming.gone, _whole(desk, request, answer)))


async def count_tokens(incoming: Incoming, desk: Desk) -> Response:
    """POST /messages/count_tokens: how many tokens a prompt has."""
    request = translate.prompt_request(decode(incoming.body, schema.Prompt))
    return json_response({"input_tokens": await while_connected(incoming.gone, desk.count(request))})


async def list_models(incoming: Incoming, desk: Desk) -> Response:
    """GET /models: the models, a page at a time."""
    entries = await desk.models()
    limit = _limit(incoming.query.get("limit", str(_PAGE)))
    names = [str(entry.name) for entry in entries]
    begin, end = 0, len(entries)
    if "after_id" in incoming.query:
        begin = _place(names, incoming.query["after_id"], "after_id") + 1
    if "before_id" in incoming.query:
        end = _place(names, incoming.query["before_id"], "before_id")
        begin = max(begin, end - limit)
    page = entries[begin:end][:limit]
    more = begin > 0 if "before_id" in incoming.query else begin + len(page) < len(entries)
    return json_response(answers.models_body(page, more))


async def get_model(incoming: Incoming, desk: Desk) -> Response:
    """GET /models/{id}: one model."""
    return json_response(answers.model_body(await desk.model(incoming.path["model"])))


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= _MOST:
        raise BadInput(f"limit is {text[:20]!r}", f"Ask for 1 to {_MOST}", param="limit")
    return int(text)


def _place(names: list[str], name: str, param: str) -> int:
    if name not in names:
        raise BadInput(f"{param} names no model of the list: {name[:120]!r}", "Take an id of a page", param=param)
    return names.index(name)


async def _whole(desk: Desk, request: Request, answer: answers.Answer) -> dict[str, Any]:
    async with aclosing(desk.generate(request)) as events:
        async for event in events:
            for _ in answer.feed(event):
                pass
    return answer.body()


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
        Route("GET", "/models", "read", list_models),
        Route("GET", "/models/{model:path}", "read", get_model),
    ),
    error=error_response,
    claims=claims,
)
