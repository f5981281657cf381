"""What does not fit the context, made shorter: only where a request asks for that."""

import msgspec

from freehold.core.request import EmbedRequest, Request
from freehold.engines.base import Worker
from freehold.engines.cutting import cut

_ROOM = 8
"""A prompt leaves at least this fraction of the context to the answer."""


async def conversation(worker: Worker, request: Request) -> Request:
    """The request without its oldest turns, as many as have to go. System messages and the last turn stay.

    A prompt that is too long even so stays as it is, for the worker to refuse.
    """
    limit = worker.context_length - min(request.max_tokens or worker.context_length, worker.context_length // _ROOM)
    removable = [place for place, each in enumerate(request.messages[:-1]) if each.role != "system"]
    low, high, middle = 0, len(removable), 0
    while low < high:  # the fewest that have to go are found by halving, after a look whether any have to
        shorter = _without(request, removable[:middle])
        if await worker.count(shorter) <= limit:
            high = middle
        else:
            low = middle + 1
        middle = (low + high) // 2
    return _without(request, removable[:low])


def _without(request: Request, places: list[int]) -> Request:
    """Answers of tools go with the call that they answer."""
    gone = set(places)
    kept = [each for place, each in enumerate(request.messages) if place not in gone]
    calls = {call.id for each in kept for call in each.tool_calls}
    kept = [each for each in kept if each.role != "tool" or not each.tool_call_id or each.tool_call_id in calls]
    return msgspec.structs.replace(request, messages=tuple(kept))


async def texts(worker: Worker, request: EmbedRequest) -> EmbedRequest:
    """The request with its inputs cut off at the end of the context."""
    inputs = [await cut(worker, each) for each in request.inputs]
    return msgspec.structs.replace(request, inputs=tuple(inputs))
