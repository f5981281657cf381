"""The routes of the Responses API: decode, ask the desk, format, keep."""

import re
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.event import Failed, Finished, Text, Usage
from freehold.core.request import Request
from freehold.dialects.openai import pages
from freehold.dialects.openai.responses import background, conversations, schema, state, translate
from freehold.dialects.openai.responses.answers import Answer, Told, usage_body
from freehold.dialects.openai.responses.compaction import compacted
from freehold.dialects.openai.responses.items import Ids
from freehold.dialects.openai.responses.state import Given
from freehold.serving.background import Work
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk, Opened
from freehold.serving.http import EventStream, json_response, while_connected
from freehold.serving.routes import Incoming, Route

_FIELDS = {"messages": "input", "response_format": "text.format"}


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /responses: the next items of a conversation."""
    body = await decoded(incoming.body, schema.ResponseRequest)
    translate.refuse(body)
    background.check(body)
    box = translate.toolbox(body)
    ids = Ids()
    given = await state.conversation(desk, body, ids)
    request = translate.request(body, given.items, box)
    answer = Answer(body, ids, box.origins, given.conversation)
    if body.background:
        work = await background.begin(desk, request, answer, given)
        return _streamed_work(work, -1) if body.stream else json_response(answer.body)
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


async def _whole(desk: Desk, request: Request, answer: Answer, given: Given) -> dict[str, Any]:
    async with aclosing(desk.generate(request)) as events:
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            for _ in answer.feed(event):
                pass
    await state.keep(desk, answer.body, given)
    return answer.body


async def _frames(desk: Desk, opened: Opened, answer: Answer, given: Given) -> AsyncGenerator[bytes, None]:
    for frame in _encoded([*answer.begin(), *answer.feed(opened.first)]):
        yield frame
    async for event in opened.rest:
        for frame in _encoded(answer.feed(event)):
            yield frame
    await state.keep(desk, answer.body, given)
    for frame in _encoded(answer.last()):
        yield frame


def _encoded(told: Iterable[Told]) -> Iterator[bytes]:
    for each in told:
        yield b"event: " + each["type"].encode() + b"\ndata: " + msgspec.json.encode(each) + b"\n\n"


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /responses/{id}: one that is kept."""
    response = incoming.path["response"]
    kept, work = await state.load(desk, response), desk.background.get(response)
    if incoming.query.get("stream", "").lower() != "true":
        return json_response(work.subject.body if work else kept.response)
    if work is None:
        raise Unsupported("only what was made in the background is streamed again", "Leave out stream", param="stream")
    after = incoming.query.get("starting_after", "-1")
    if not re.fullmatch(r"-1|[0-9]{1,9}", after):
        raise BadInput(f"starting_after is {after[:20]!r}", "Give the number of an event", param="starting_after")
    return _streamed_work(work, int(after))


def _streamed_work(work: Work, after: int) -> Response:
    told = background.streamed(work, after)
    return EventStream(_framed(told), told)


async def _framed(told: AsyncGenerator[Told, None]) -> AsyncGenerator[bytes, None]:
    async for each in told:
        for frame in _encoded([each]):
            yield frame


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /responses/{id}: forget one."""
    response = incoming.path["response"]
    if (work := desk.background.get(response)) is not None:
        await work.stop()
        desk.background.forget(response)
    await state.remove(desk, response)
    return json_response({"id": response, "object": "response", "deleted": True})


async def cancel(incoming: Incoming, desk: Desk) -> Response:
    """POST /responses/{id}/cancel: end one that is made in the background; one that has ended is told as it is."""
    response = incoming.path["response"]
    kept, work = await state.load(desk, response), desk.background.get(response)
    if work is not None:
        await work.cancel()
        return json_response(work.subject.body)
    if not kept.response["background"]:
        raise BadInput("Cannot cancel a synchronous response", "Close its connection while it is answered")
    return json_response(kept.response)


async def input_items(incoming: Incoming, desk: Desk) -> Response:
    """GET /responses/{id}/input_items: the conversation that was answered, the newest item first."""
    return json_response(pages.items(incoming.query, (await state.load(desk, incoming.path["response"])).input))


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
            "output": compacted(given.items, said, ids.new("cmp")),
            "usage": usage_body(usage, 0),
        }
    )


async def _said(desk: Desk, body: schema.CompactRequest, given: Given) -> tuple[str, Usage]:
    request = translate.summary(body, given.items, await desk.context(Request(model=body.model)))
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
    request = translate.conversation(body, given.items, translate.toolbox(body))
    with _own_fields():
        count = await while_connected(incoming.gone, desk.count(request))
    return json_response({"object": "response.input_tokens", "input_tokens": count})


ROUTES = (
    *conversations.ROUTES,
    Route("POST", "/responses", "infer", create, body=schema.ResponseRequest),
    Route("POST", "/responses/input_tokens", "infer", input_tokens, body=schema.TokensRequest),
    Route("POST", "/responses/compact", "infer", compact, body=schema.CompactRequest),
    Route("GET", "/responses/{response}", "infer", retrieve),
    Route("DELETE", "/responses/{response}", "infer", delete),
    Route("POST", "/responses/{response}/cancel", "infer", cancel, "any"),
    Route("GET", "/responses/{response}/input_items", "infer", input_items),
)
