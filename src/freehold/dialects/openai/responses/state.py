"""What is kept between requests: each response with the whole conversation that it answered.

So a response can be removed, or make room for newer ones, without those that went on from it losing anything.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from freehold.core.errors import BadInput, Damaged, FreeholdError, NotFound, TooLarge, UnknownConversation
from freehold.dialects.openai.responses import conversations
from freehold.dialects.openai.responses import schema as wire
from freehold.dialects.openai.responses.items import Ids, Item, response_of, said, stored
from freehold.serving.desk import Desk

UNFINISHED = ("queued", "in_progress")
_log = logging.getLogger("freehold.responses")


class Kept(msgspec.Struct):
    """A response as it is kept."""

    response: dict[str, Any]
    input: list[Item]
    """The conversation before its answer."""

    @property
    def conversation(self) -> list[Item]:
        """What a request that goes on from it continues."""
        return [*self.input, *self.response["output"]]


class Given(NamedTuple):
    """What a request has a model read."""

    items: list[Item]
    """The whole conversation."""
    own: list[Item]
    """Of it, what the request itself brought."""
    conversation: str = ""
    """The kept conversation that it is part of."""


async def keep(desk: Desk, response: dict[str, Any], given: Given) -> None:
    """Add to its conversation what was said, and keep the response, if that is wished."""
    if given.conversation:
        try:
            await conversations.grow(desk, given.conversation, [*given.own, *response["output"]])
        except FreeholdError as error:  # deleted meanwhile: the answer is not lost for that
            _log.warning("a conversation was not gone on with: %s", error.line())
    if response["store"]:
        await _keep(desk, response, given.items)


async def _keep(desk: Desk, response: dict[str, Any], given: list[Item]) -> None:
    """Keep a response; one that cannot be says so itself: its answer is not lost for that.

    None is larger than a request may be, so that what goes on from it is not larger than two.
    """
    text = msgspec.json.encode(Kept(response, given))
    small = len(text) <= desk.settings.max_body
    try:
        response["store"] = small and await asyncio.to_thread(desk.kept.put, response["id"], text)
    except FreeholdError as error:
        response["store"] = False
        _log.warning("a response was not kept: %s", error.line())


async def load(desk: Desk, response: str) -> Kept:
    """A response that was kept. Raises NotFound and Damaged."""
    work = desk.background.get(response)
    if work is not None and not work.ended and work.subject.body["status"] not in UNFINISHED:
        await work.finished()  # it is complete, and just being kept
    try:
        return await asyncio.to_thread(_read, desk, response)
    except NotFound as error:
        raise _unknown(response) from error


def _read(desk: Desk, response: str) -> Kept:
    _require_own(response)
    try:
        kept = msgspec.json.decode(desk.kept.get(response), type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"response {response} cannot be read", "Delete it") from error
    if kept.response["status"] in UNFINISHED and desk.background.get(response) is None:
        lost = {"code": "server_error", "message": "the server ended before the answer was complete"}
        kept.response |= {"status": "failed", "error": lost}
    return kept


async def remove(desk: Desk, response: str) -> None:
    """Forget a response. Raises NotFound."""
    _require_own(response)
    try:
        await asyncio.to_thread(desk.kept.remove, response)
    except NotFound as error:
        raise _unknown(response) from error


async def conversation(desk: Desk, body: wire.Conversation, ids: Ids) -> Given:
    """The items that a request goes on from, and its own. Raises NotFound, BadInput, TooLarge and Unsupported."""
    part_of = conversations.named(body.conversation) if isinstance(body, wire.Asked) else ""
    if part_of and body.previous_response_id:
        raise BadInput("a conversation and a previous response exclude each other", "Send one", param="conversation")
    before: list[Item] = []
    if part_of:
        before = (await conversations.load(desk, part_of)).items
    elif body.previous_response_id:
        before = await _before(desk, body.previous_response_id)
    own = [said(body.input, ids)] if isinstance(body.input, str) else await _own(desk, body.input or (), ids)
    return Given([*before, *own], own, part_of)


async def _own(desk: Desk, given: Sequence[wire.Item], ids: Ids) -> list[Item]:
    items, referred = [], 0
    for item in given:
        if item.type != "item_reference":
            items.append(stored(item, ids))
            continue
        items.append(await _referred(desk, item.id or ""))
        referred += len(msgspec.json.encode(items[-1]))
        if referred > desk.settings.max_body:
            raise TooLarge("the items that are referred to are too large", "Refer to fewer", param="input")
    return items


async def _before(desk: Desk, response: str) -> list[Item]:
    try:
        kept = await load(desk, response)
        if kept.response["status"] in UNFINISHED:
            raise BadInput(
                f"response {response} is not complete yet", "Ask after it until it is", param="previous_response_id"
            )
        return kept.conversation
    except NotFound as error:
        raise UnknownConversation(
            f"Previous response with id {response[:120]!r} not found", error.remedy, param="previous_response_id"
        ) from error


async def _referred(desk: Desk, item: str) -> Item:
    """The item of this id, from the response that it came with."""
    owner = response_of(item)
    try:
        known = (await load(desk, owner)).conversation if owner else []
    except NotFound:
        known = []
    found = next((each for each in known if each["id"] == item), None)
    if found is None:
        remedy = "Items are not kept when `store` is false, or their response was removed: send the item itself"
        raise NotFound(f"Item with id {item[:120]!r} not found", remedy, param="input")
    return found


def _require_own(response: str) -> None:
    """Conversations, chat completions and uploads are kept in the same place. Raises NotFound for them."""
    if not response.startswith("resp_"):
        raise _unknown(response)


def _unknown(response: str) -> NotFound:
    return NotFound(
        f"Response with id {response[:120]!r} not found", "It was never kept, was deleted, or made room for newer ones"
    )
