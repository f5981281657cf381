"""Anthropic's files: sent once, and then named in the documents of messages. They are apart from OpenAI's."""

import asyncio
import mimetypes
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.responses import Response

from freehold.core.errors import BadInput, NotFound, TooLarge, Unsupported
from freehold.dialects.anthropic import answers, pages
from freehold.dialects.anthropic.schema import Block, Content, Prompt
from freehold.serving.desk import Desk
from freehold.serving.files import Kept, seconds_of
from freehold.serving.http import FileStream, json_response
from freehold.serving.multipart import form
from freehold.serving.routes import Incoming, Route

PURPOSE = "anthropic"
_LEAST, _LONGEST = 3600, 7_776_000
"""Seconds after which a file may expire."""
_MOST_IDS = 100
_TEXTS = ("text/", "application/json", "application/xml", "application/yaml", "application/toml")


def body(kept: Kept) -> dict[str, Any]:
    """A file as Anthropic's clients read it."""
    return {
        "id": _shown(kept),
        "type": "file",
        "filename": kept.filename,
        "mime_type": _media(kept),
        "size_bytes": kept.size,
        "created_at": answers.moment(kept.created),
        "expires_at": None if kept.expires is None else answers.moment(kept.expires),
        "downloadable": True,
    }


async def filled(desk: Desk, prompt: Prompt) -> None:
    """Put the texts of files in the place of what names them. Raises NotFound, TooLarge and Unsupported."""
    room = desk.settings.max_body
    for block in _documents([message.content for message in prompt.messages]):
        text = await asyncio.to_thread(_text, desk, str((block.source or {}).get("file_id", "")), room)
        room -= len(text)
        block.source = {"type": "text", "data": text}


def _documents(contents: Sequence[Content | None]) -> Iterator[Block]:
    for content in contents:
        for block in content if isinstance(content, list) else ():
            if block.type == "document" and (block.source or {}).get("type") == "file":
                yield block
            yield from _documents([block.content])


def _text(desk: Desk, identifier: str, room: int) -> str:
    kept = _kept(desk, identifier)
    if kept.size > room:
        raise TooLarge("the files of the messages are larger than a request may be", "Name fewer", param="messages")
    try:
        if not _media(kept).startswith(_TEXTS):
            raise ValueError
        return desk.files.path(kept.id).read_text("utf-8")
    except ValueError as error:
        raise Unsupported(
            f"the file {kept.filename!r} is no text but {_media(kept)}", "Send its text", param="messages"
        ) from error


def _kept(desk: Desk, identifier: str) -> Kept:
    """The file of this id. Raises NotFound, for one of OpenAI's too."""
    kept = desk.files.get(identifier.replace("file_", "file-", 1))
    if kept.purpose != PURPOSE:
        raise NotFound(f"there is no file {identifier[:80]!r}", "List the files to see what is there")
    return kept


def _shown(kept: Kept) -> str:
    return kept.id.replace("file-", "file_", 1)


def _media(kept: Kept) -> str:
    return kept.media or mimetypes.guess_type(kept.filename)[0] or "application/octet-stream"


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /files: keep a file."""
    async with form(incoming, desk.files) as sent:
        wanted = sent.fields.get("expires_in_seconds")
        seconds = None if wanted is None else seconds_of(wanted, _LEAST, _LONGEST, "expires_in_seconds")
        media = "" if sent.media == "application/octet-stream" else sent.media
        kept = await asyncio.to_thread(
            desk.files.keep, sent.upload, sent.filename, PURPOSE, seconds=seconds, media=media
        )
    return json_response(body(kept))


async def index(incoming: Incoming, desk: Desk) -> Response:
    """GET /files: all, the newest first, a page at a time, or those of some ids."""
    query = incoming.query
    found = [kept for kept in await asyncio.to_thread(desk.files.all) if kept.purpose == PURPOSE]
    ids = {*query.getlist("ids[]"), *query.getlist("ids")}
    if ids:
        if len(ids) > _MOST_IDS or "page" in query or "limit" in query:
            raise BadInput("ids go alone", f"Send at most {_MOST_IDS}, and neither page nor limit", param="ids")
        chosen, more = [kept for kept in found if _shown(kept) in ids], False
    else:
        after = {"after_id": query["page"].removeprefix("page_")} if query.get("page") else {}
        chosen, more = pages.page({**query, **after}, found, _shown)
    data = [body(kept) for kept in chosen]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    next_page = f"page_{data[-1]['id']}" if more and "before_id" not in query else None
    return json_response({"data": data, "has_more": more, **ends, "next_page": next_page})


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /files/{id}: what is known of one."""
    return json_response(body(await asyncio.to_thread(_kept, desk, incoming.path["file"])))


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /files/{id}: remove one."""
    kept = await asyncio.to_thread(_kept, desk, incoming.path["file"])
    await asyncio.to_thread(desk.files.remove, kept.id)
    return json_response({"id": incoming.path["file"], "type": "file_deleted"})


async def content(incoming: Incoming, desk: Desk) -> Response:
    """GET /files/{id}/content: its bytes."""
    kept = await asyncio.to_thread(_kept, desk, incoming.path["file"])
    return FileStream(await asyncio.to_thread(desk.files.path, kept.id), "application/octet-stream", kept.filename)


ROUTES = (
    Route("POST", "/files", "infer", create, "chunks"),
    Route("GET", "/files", "infer", index),
    Route("GET", "/files/{file}", "infer", retrieve),
    Route("DELETE", "/files/{file}", "infer", delete),
    Route("GET", "/files/{file}/content", "infer", content),
)
