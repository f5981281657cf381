"""Chat completions that are kept because their request said `store`: list, read, change metadata, delete."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from itertools import islice
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import Damaged, FreeholdError, NotFound
from freehold.core.event import Failed
from freehold.core.request import Request
from freehold.dialects.openai import answers, asking, schema
from freehold.dialects.openai.asking import Events
from freehold.dialects.openai.pages import ascending, limited, listed, metadata, page, place
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.routes import Incoming, Route

_PREFIX = "chatcmpl_"
_MOST = 100
_log = logging.getLogger("freehold.stored")


class Stored(msgspec.Struct):
    """A chat completion as it is kept."""

    completion: dict[str, Any]
    messages: list[dict[str, Any]]
    """The conversation that it answered."""


def events(desk: Desk, body: schema.ChatRequest, request: Request, head: Mapping[str, Any]) -> Events:
    """The events that answer a request, whose completion is kept under its `head` if that is wished."""
    told = asking.in_turn(desk.generate, [request])
    return _passed(desk, body, told, head) if body.store else told


async def _passed(desk: Desk, body: schema.ChatRequest, told: Events, head: Mapping[str, Any]) -> Events:
    whole = answers.ChatWhole(body.model)
    async with aclosing(told) as events:
        async for event in events:
            if not isinstance(event, Failed):
                whole.feed(event)
            yield event
            if isinstance(event, Failed):
                return
    completion = {**whole.body(), **head, "object": "chat.completion", "metadata": body.metadata or {}}
    messages = [_message(completion["id"], place, each) for place, each in enumerate(body.messages)]
    await _keep(desk, Stored(completion, messages))


def _message(identifier: str, place: int, message: schema.Message) -> dict[str, Any]:
    said = _filled(msgspec.to_builtins(message))
    parts = [_filled(part) for part in said["content"]] if isinstance(said.get("content"), list) else None
    text = None if parts is None else "".join(part.get("text") or "" for part in parts)
    content = said.get("content") if parts is None else text
    return {"id": f"{identifier}-{place}", **said, "content": content, "content_parts": parts}


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


async def _keep(desk: Desk, stored: Stored) -> None:
    """Keep it; one that cannot be is answered all the same."""
    text = msgspec.json.encode(stored)
    try:
        if len(text) <= desk.settings.max_body:
            await asyncio.to_thread(desk.kept.put, _key(stored.completion["id"]), text)
    except FreeholdError as error:
        _log.warning("a chat completion was not kept: %s", error.line())


def _key(identifier: str) -> str:
    return identifier.replace("chatcmpl-", _PREFIX, 1)


def _read(desk: Desk, identifier: str) -> Stored:
    """Raises NotFound and Damaged."""
    if not identifier.startswith("chatcmpl-"):
        raise _unknown(identifier)
    try:
        return _decoded(identifier, desk.kept.get(_key(identifier)))
    except NotFound as error:
        raise _unknown(identifier) from error


def _decoded(identifier: str, text: bytes) -> Stored:
    try:
        return msgspec.json.decode(text, type=Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"the chat completion {identifier} cannot be read", "Delete it") from error


def _unknown(identifier: str) -> NotFound:
    return NotFound(
        f"there is no chat completion {identifier[:80]!r}",
        "Those are kept whose request says 'store': true, until newer ones need the room",
    )


async def index(incoming: Incoming, desk: Desk) -> Response:
    """GET /chat/completions: those that are kept, the oldest first unless asked otherwise, a page at a time."""
    query = incoming.query
    limit, oldest_first = limited(query, _MOST), ascending(query, "asc")

    def look() -> dict[str, Any]:
        keys = desk.kept.keys(_PREFIX)
        keys = keys if oldest_first else keys[::-1]
        begin = place(_key(query["after"]), keys) if query.get("after") else 0
        found = list(islice(_matching(desk, keys[begin:], query), limit + 1))
        return listed(found[:limit], more=len(found) > limit)

    return json_response(await asyncio.to_thread(look))


def _matching(desk: Desk, keys: Sequence[str], query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The completions of these keys that are of the model and have the metadata that a query asks for."""
    wanted = metadata(query)
    for key in keys:
        try:
            completion = _decoded(key, desk.kept.get(key)).completion
        except (NotFound, Damaged):
            continue  # gone meanwhile, or to be deleted
        told = completion["metadata"]
        if query.get("model") in (None, completion["model"]) and all(told.get(k) == v for k, v in wanted.items()):
            yield completion


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /chat/completions/{id}: one of them."""
    return json_response((await asyncio.to_thread(_read, desk, incoming.path["completion"])).completion)


async def update(incoming: Incoming, desk: Desk) -> Response:
    """POST /chat/completions/{id}: give it other metadata."""
    identifier = incoming.path["completion"]
    body = await decoded(incoming.body, schema.MetadataRequest)

    def work() -> dict[str, Any]:
        _read(desk, identifier)
        told: list[Stored] = []

        def made(text: bytes) -> bytes:
            stored = _decoded(identifier, text)
            stored.completion["metadata"] = body.metadata or {}
            told.append(stored)
            return msgspec.json.encode(stored)

        desk.kept.change(_key(identifier), made, renewed=False)
        return told[-1].completion

    return json_response(await asyncio.to_thread(work))


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /chat/completions/{id}: forget it."""
    identifier = incoming.path["completion"]
    with suppress(Damaged):  # deleting it is what mends it
        await asyncio.to_thread(_read, desk, identifier)
    await asyncio.to_thread(desk.kept.remove, _key(identifier))
    return json_response({"id": identifier, "object": "chat.completion.deleted", "deleted": True})


async def messages(incoming: Incoming, desk: Desk) -> Response:
    """GET /chat/completions/{id}/messages: the conversation that it answered, a page at a time."""
    found = (await asyncio.to_thread(_read, desk, incoming.path["completion"])).messages
    ordered = found if ascending(incoming.query, "asc") else found[::-1]
    return json_response(page(incoming.query, ordered, lambda each: str(each["id"]), dict, _MOST))


ROUTES = (
    Route("GET", "/chat/completions", "infer", index),
    Route("GET", "/chat/completions/{completion}", "infer", retrieve),
    Route("POST", "/chat/completions/{completion}", "infer", update, body=schema.MetadataRequest),
    Route("DELETE", "/chat/completions/{completion}", "infer", delete),
    Route("GET", "/chat/completions/{completion}/messages", "infer", messages),
)
