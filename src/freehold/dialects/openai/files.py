"""OpenAI's routes for files: what is uploaded, and what batches answered."""

import asyncio
from typing import Any

from starlette.responses import Response

from freehold.core.errors import BadInput, NotFound
from freehold.dialects.openai.pages import ascending, page
from freehold.serving.desk import Desk
from freehold.serving.files import Kept, seconds_of
from freehold.serving.http import FileStream, json_response
from freehold.serving.multipart import form
from freehold.serving.routes import Incoming, Route

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
RESULTS = "fine-tune-results"
KNOWN = frozenset({*_PURPOSES, "batch_output", RESULTS})
"""Files of other purposes are other dialects' own."""
_MOST = 10_000
_EXPIRY = "expires_after[seconds]"
_FIELDS = {"purpose", "expires_after[anchor]", _EXPIRY}


def body(kept: Kept) -> dict[str, Any]:
    """A file as OpenAI's clients read it."""
    return {
        "id": kept.id,
        "object": "file",
        "bytes": kept.size,
        "created_at": int(kept.created),
        "expires_at": None if kept.expires is None else int(kept.expires),
        "filename": kept.filename,
        "purpose": kept.purpose,
        "status": "processed",
        "status_details": None,
    }


def check_purpose(purpose: str) -> None:
    """Raises BadInput for what a client keeps no file for."""
    if purpose not in _PURPOSES:
        raise BadInput(f"the purpose is {purpose[:40]!r}", f"Choose one of {', '.join(_PURPOSES)}", param="purpose")


def of_id(desk: Desk, identifier: str) -> Kept:
    """The file of this id. Raises NotFound, for one of another dialect too."""
    kept = desk.files.get(identifier)
    if kept.purpose not in KNOWN:
        raise NotFound(f"there is no file {identifier[:80]!r}", "List the files to see what is there", param="id")
    return kept


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /files: keep a file."""
    async with form(incoming, desk.files) as sent:
        purpose = sent.fields.get("purpose", "")
        check_purpose(purpose)
        unknown = sorted(set(sent.fields) - _FIELDS)
        if unknown:
            raise BadInput(f"unrecognised field {unknown[0][:80]!r}", "See the API reference", param=unknown[0][:80])
        seconds = seconds_of(sent.fields[_EXPIRY], 3600, 2592000, _EXPIRY) if _EXPIRY in sent.fields else None
        kept = await asyncio.to_thread(desk.files.keep, sent.upload, sent.filename, purpose, seconds=seconds)
    return json_response(body(kept))


async def index(incoming: Incoming, desk: Desk) -> Response:
    """GET /files: all, the newest first unless asked otherwise, a page at a time."""
    found = await asyncio.to_thread(desk.files.all)
    wanted, oldest_first = incoming.query.get("purpose"), ascending(incoming.query, "desc")
    chosen = [kept for kept in found if kept.purpose in KNOWN and wanted in (None, kept.purpose)]
    return json_response(page(incoming.query, chosen[::-1] if oldest_first else chosen, _id, body, _MOST))


def _id(kept: Kept) -> str:
    return kept.id


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /files/{id}: what is known of one."""
    return json_response(body(await asyncio.to_thread(of_id, desk, incoming.path["file"])))


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /files/{id}: remove one."""
    kept = await asyncio.to_thread(of_id, desk, incoming.path["file"])
    await asyncio.to_thread(desk.files.remove, kept.id)
    return json_response({"id": incoming.path["file"], "object": "file", "deleted": True})


async def content(incoming: Incoming, desk: Desk) -> Response:
    """GET /files/{id}/content: its bytes."""
    kept = await asyncio.to_thread(of_id, desk, incoming.path["file"])
    path = await asyncio.to_thread(desk.files.path, kept.id)
    return FileStream(path, "application/octet-stream", kept.filename)


ROUTES = (
    Route("POST", "/files", "infer", create, "chunks"),
    Route("GET", "/files", "infer", index),
    Route("GET", "/files/{file}", "infer", retrieve),
    Route("DELETE", "/files/{file}", "infer", delete),
    Route("GET", "/files/{file}/content", "infer", content),
)
