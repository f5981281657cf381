"""Conversations that the server keeps under a name of their own: what responses to them add, and what clients do."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import Damaged, NotFound, TooLarge
from freehold.dialects.openai import pages
from freehold.dialects.openai.responses import schema
from freehold.dialects.openai.responses.items import Ids, Item, stored
from freehold.dialects.openai.schema import MetadataRequest
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.routes import Incoming, Route

_PREFIX = "conv_"


class Talk(msgspec.Struct):
    """A conversation as it is kept."""

    conversation: dict[str, Any]
    items: list[Item]


def named(reference: str | schema.ConversationName | None) -> str:
    """The conversation that a request is part of; empty if of none."""
    return reference.id if isinstance(reference, schema.ConversationName) else reference or ""


async def load(desk: Desk, identifier: str) -> Talk:
    """A conversation. Raises NotFound and Damaged."""
    return await asyncio.to_thread(_read, desk, identifier)


async def grow(desk: Desk, identifier: str, items: Sequence[Item]) -> None:
    """Add items to a conversation. Raises NotFound, Damaged, TooLarge and DiskFull."""
    await _changed(desk, identifier, lambda talk: talk.items.extend(items))


def _read(desk: Desk, identifier: str) -> Talk:
    try:
        if identifier.startswith(_PREFIX):
            return _decoded(identifier, desk.kept.get(identifier))
    except NotFound:
        pass
    raise _unknown(identifier)


def _decoded(identifier: str, text: bytes) -> Talk:
    try:
        return msgspec.json.decode(text, type=Talk)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"conversation {identifier} cannot be read", "Delete it") from error


def _encoded(desk: Desk, talk: Talk) -> bytes:
    text = msgspec.json.encode(talk)
    if len(text) > desk.settings.max_body:
        raise TooLarge("the conversation has become too large", "Begin another", param="conversation")
    return text


async def _changed(desk: Desk, identifier: str, change: Callable[[Talk], None]) -> Talk:
    """The conversation after a change that no other comes between."""
    told: list[Talk] = []

    def made(text: bytes) -> bytes:
        talk = _decoded(identifier, text)
        change(talk)
        told.append(talk)
        return _encoded(desk, talk)

    await load(desk, identifier)  # whose errors say what is looked for
    await asyncio.to_thread(desk.kept.change, identifier, made)
    return told[-1]


def _unknown(identifier: str) -> NotFound:
    return NotFound(
        f"Conversation with id {identifier[:120]!r} not found", "It was deleted, or made room for newer ones"
    )


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /conversations: begin one."""
    body = await decoded(incoming.body, schema.ConversationRequest)
    ids = Ids()
    identifier = f"{_PREFIX}{secrets.token_hex(24)}"
    about = {
        "id": identifier,
        "object": "conversation",
        "created_at": int(time.time()),
        "metadata": body.metadata or {},
    }
    text = _encoded(desk, Talk(about, [stored(item, ids) for item in body.items or ()]))
    if not await asyncio.to_thread(desk.kept.put, identifier, text):
        raise TooLarge("there is no room for conversations", "Raise FREEHOLD_KEPT_ANSWERS")
    return json_response(about)


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /conversations/{id}: what is known of one."""
    return json_response((await load(desk, incoming.path["conversation"])).conversation)


async def update(incoming: Incoming, desk: Desk) -> Response:
    """POST /conversations/{id}: give it other metadata."""
    body = await decoded(incoming.body, MetadataRequest)

    def change(talk: Talk) -> None:
        talk.conversation["metadata"] = body.metadata or {}

    return json_response((await _changed(desk, incoming.path["conversation"], change)).conversation)


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /conversations/{id}: forget it. Responses that were part of it stay."""
    identifier = incoming.path["conversation"]
    with suppress(Damaged):  # deleting it is what mends it
        await load(desk, identifier)
    await asyncio.to_thread(desk.kept.remove, identifier)
    return json_response({"id": identifier, "object": "conversation.deleted", "deleted": True})


async def add_items(incoming: Incoming, desk: Desk) -> Response:
    """POST /conversations/{id}/items: add some."""
    body = await decoded(incoming.body, schema.ItemsRequest)
    ids = Ids()
    added = [stored(item, ids) for item in body.items]
    await grow(desk, incoming.path["conversation"], added)
    return json_response(pages.listed(added, more=False))


async def list_items(incoming: Incoming, desk: Desk) -> Response:
    """GET /conversations/{id}/items: what was said, the newest first unless asked otherwise, a page at a time."""
    return json_response(pages.items(incoming.query, (await load(desk, incoming.path["conversation"])).items))


async def get_item(incoming: Incoming, desk: Desk) -> Response:
    """GET /conversations/{id}/items/{item}: one of them."""
    talk = await load(desk, incoming.path["conversation"])
    found = next((item for item in talk.items if item["id"] == incoming.path["item"]), None)
    if found is None:
        raise _no_item(incoming.path["item"])
    return json_response(found)


async def delete_item(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /conversations/{id}/items/{item}: take one out."""
    item = incoming.path["item"]

    def change(talk: Talk) -> None:
        kept = [each for each in talk.items if each["id"] != item]
        if len(kept) == len(talk.items):
            raise _no_item(item)
        talk.items = kept

    return json_response((await _changed(desk, incoming.path["conversation"], change)).conversation)


def _no_item(item: str) -> NotFound:
    return NotFound(f"Item with id {item[:120]!r} not found", "List the items to see what is there")


ROUTES = (
    Route("POST", "/conversations", "infer", create, body=schema.ConversationRequest),
    Route("GET", "/conversations/{conversation}", "infer", retrieve),
    Route("POST", "/conversations/{conversation}", "infer", update, body=MetadataRequest),
    Route("DELETE", "/conversations/{conversation}", "infer", delete),
    Route("POST", "/conversations/{conversation}/items", "infer", add_items, body=schema.ItemsRequest),
    Route("GET", "/conversations/{conversation}/items", "infer", list_items),
    Route("GET", "/conversations/{conversation}/items/{item}", "infer", get_item),
    Route("DELETE", "/conversations/{conversation}/items/{item}", "infer", delete_item),
)
