"""The routes of the Responses API: decode, ask the desk, format, keep."""

import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.event import Failed, Finished, Text, Usage
from freehold.core.request import Request
from freehold.dialects.openai.responses import schema, state, translate
from freehold.dialects.openai.responses.answers import Answer, Told, usage_body
from freehold.dialects.openai.responses.compaction import compacted
from freehold.dialects.openai.responses.items import Ids, Item
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk, Opened
from freehold.serving.http import EventStream, json_response, while_connected
from freehold.serving.routes import Incoming, Route

_PAGE = 20
_LONGEST_PAGE = 100
_FIELDS = {"messages": "input", "response_format": "text.format"}


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /responses: the next items of a conversation."""
    body = await decoded(incoming.body, schema.ResponseRequest)
    translate.refuse(body)
    box = translate.toolbox(body)
    ids = Ids()
    given = await state.conversation(desk, body, ids)
    request = translate.request(body, given, box)
    answer = Answer(body, ids, box.origins)
    with _own_fields():
        if body.stream:
            opened = await while_connected(incoming.gone, desk.open(request))
            return EventStream(_frames(desk, opened, answer, given), opened.rest)
        return json_response(await while_connected(incoming.gone, _whole(desk, request, answer, given)))


@contextmanager
def _own_fields() -> Iterator[None]:
    """Have errors that name a field name this API's."""
    try:
        yield
    except FreeholdError as error:
        error.param = _FIELDS.get(error.param or "", error.param)
        raise


async def _whole(desk: Desk, request: Request, answer: Answer, given: list[Item]) -> dict[str, Any]:
    async with aclosing(desk.generate(request)) as events:
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            for _ in answer.feed(event):
                pass
    await _keep(desk, answer, given)
    return answer.body


async def _frames(desk: Desk, opened: Opened, answer: Answer, given: list[Item]) -> AsyncGenerator[bytes, None]:
    for frame in _encoded([*answer.begin(), *answer.feed(opened.first)]):
        yield frame
    async for event in opened.rest:
        for frame in _encoded(answer.feed(event)):
            yield frame
    await _keep(desk, answer, given)
    for frame in _encoded(answer.last()):
        yield frame


async def _keep(desk: Desk, answer: Answer, given: list[Item]) -> None:
    if answer.body["store"]:
        await state.keep(desk, answer.body, given)


def _encoded(told: Iterable[Told]) -> Iterator[bytes]:
    for each in told:
        yield b"event: " + each["type"].encode() + b"\ndata: " + msgspec.json.encode(each) + b"\n\n"


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /responses/{id}: one that is kept."""
    if incoming.query.get("stream", "").lower() == "true":
        raise Unsupported("an answer that is complete is not streamed again", "Leave out stream", param="stream")
    return json_response((await state.load(desk, incoming.path["response"])).response)


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /responses/{id}: forget one."""
    response = incoming.path["response"]
    await state.remove(desk, response)
    return json_response({"id": response, "object": "response", "deleted": True})


async def cancel(incoming: Incoming, desk: Desk) -> Response:
    """POST /responses/{id}/cancel: what could be cancelled would have to run in the background, and nothing does."""
    await state.load(desk, incoming.path["response"])
    raise BadInput("Cannot cancel a synchronous response", "Close its connection while it is answered")


async def input_items(incoming: Incoming, desk: Desk) -> Response:
    """GET /responses/{id}/input_items: the conversation that was answered, the newest item first."""
    found = (await state.load(desk, incoming.path["response"])).input
    order = incoming.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadInput(f"there is no order {order[:80]!r}", "Ask for asc or desc", param="order")
    found = found if order == "asc" else found[::-1]
    after = incoming.query.get("after")
    if after:
        places = [place for place, item in enumerate(found) if item["id"] == after]
        if not places:
            raise BadInput(f"there is no item {after[:120]!r} here", "Name one that was listed", param="after")
        found = found[places[0] + 1 :]
    page = found[: _limit(incoming.query.get("limit", ""))]
    ends = {"first_id": page[0]["id"] if page else "", "last_id": page[-1]["id"] if page else ""}
    return json_response({"object": "list", "data": page, **ends, "has_more": len(page) < len(found)})


def _limit(text: str) -> int:
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0
    if text and not 1 <= limit <= _LONGEST_PAGE:
        raise BadInput(f"a page cannot have {text[:80]!r} items", f"Ask for 1 to {_LONGEST_PAGE}", param="limit")
    return limit or _PAGE


async def compact(incoming: Incoming, desk: Desk) -> Response:
    """POST /responses/compact: a conversation made short, to go on from."""
    body = await decoded(incoming.body, schema.CompactRequest)
    ids = Ids()
    given = await state.conversation(desk, body, ids)
    with _own_fields():
        said, usage = await while_connected(incoming.gone, _said(desk, body, given))
    return json_response(
        {
            "id": ids.response,
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": compacted(given, said, ids.new("cmp")),
            "usage": usage_body(usage, 0),
        }
    )


async def _said(desk: Desk, body: schema.CompactRequest, given: list[Item]) -> tuple[str, Usage]:
    request = translate.summary(body, given, await desk.context(Request(model=body.model)))
    text: list[str] = []
    usage = Usage()
    async with aclosing(desk.generate(request)) as events:
        async for event in events:
            match event:
                case Failed():
                    raise event.error
                case Text():
                    text.append(event.text)
                case Finished():
                    usage = event.usage
    return "".join(text).strip(), usage


async def input_tokens(incoming: Incoming, desk: Desk) -> Response:
    """POST /responses/input_tokens: how many tokens a prompt has."""
    body = await decoded(incoming.body, schema.TokensRequest)
    translate.refuse(body)
    given = await state.conversation(desk, body, Ids())
    request = translate.conversation(body, given, translate.toolbox(body))
    with _own_fields():
        count = await while_connected(incoming.gone, desk.count(request))
    return json_response({"object": "response.input_tokens", "input_tokens": count})


ROUTES = (
    Route("POST", "/responses", "infer", create, body=schema.ResponseRequest),
    Route("POST", "/responses/input_tokens", "infer", input_tokens, body=schema.TokensRequest),
    Route("POST", "/responses/compact", "infer", compact, body=schema.CompactRequest),
    Route("GET", "/responses/{response}", "infer", retrieve),
    Route("DELETE", "/responses/{response}", "infer", delete),
    Route("POST", "/responses/{response}/cancel", "infer", cancel, "any"),
    Route("GET", "/responses/{response}/input_items", "infer", input_items),
)
