"""Responses that are made in the background: asked after, streamed anew, cancelled, and told of after a restart."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.event import Failed
from freehold.core.request import Request
from freehold.dialects.openai.responses import schema, state
from freehold.dialects.openai.responses.answers import Answer
from freehold.serving.background import Work
from freehold.serving.desk import Desk

_SECONDS = 3600.0
"""In which one has to be complete."""


def check(body: schema.ResponseRequest) -> None:
    """Raises BadInput for one that nobody could ask after."""
    if body.background and body.store is False:
        raise BadInput("what is made in the background has to be kept", "Leave out store", param="store")


async def begin(desk: Desk, request: Request, answer: Answer, given: state.Given) -> Work:
    """Have it made. Raises UnknownModel, Unsupported and Busy."""
    await desk.known(request.model)

    async def cancelled() -> None:
        answer.cancel()
        await state.keep(desk, answer.body, given)

    work = Work(answer, cancelled)
    for told in answer.queue():
        work.tell(told)
    await state.keep(desk, answer.body, given._replace(conversation=""))  # so that a restart does not lose its name
    if not answer.body["store"]:
        raise Unsupported("answers are not kept here, so nobody could ask after it", "Wait for it", param="background")
    desk.background.begin(answer.body["id"], work, _made(desk, request, answer, given, work))
    return work


async def _made(desk: Desk, request: Request, answer: Answer, given: state.Given, work: Work) -> None:
    patient = msgspec.structs.replace(request, deadline=_SECONDS)
    for told in answer.start():
        work.tell(told)
    try:
        async with aclosing(desk.generate(patient)) as events:
            async for event in events:
                for told in answer.feed(event):
                    work.tell(told)
    except FreeholdError as error:
        for told in answer.feed(Failed(error)):
            work.tell(told)
    work.closing = True
    await state.keep(desk, answer.body, given)
    for told in answer.last():
        work.tell(told)


async def streamed(work: Work, after: int) -> AsyncGenerator[dict[str, Any], None]:
    """What it told and tells, after the event of this number."""
    async with aclosing(work.listen(after + 1)) as events:
        async for told in events:
            yield told
