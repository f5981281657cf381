"""OpenAI's uploads: a file that comes in parts, in any order and several at once, also over a restart of the server."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from freehold.core.errors import BadInput, Damaged, NoRoom, NotFound, TooLarge
from freehold.dialects.openai import files
from freehold.dialects.openai.batch_schema import CompleteRequest, UploadRequest
from freehold.formats.atomic import size_text
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.files import MAX_FILE
from freehold.serving.http import json_response
from freehold.serving.multipart import form
from freehold.serving.routes import Incoming, Route

_SECONDS = 3600
"""For which an upload waits for its parts."""
_PURPOSE = "upload_part"
_PIECE = 1 << 20
_MOST_PARTS = 1000


class Waiting(msgspec.Struct, kw_only=True):
    """An upload as it is kept."""

    id: str
    bytes: int
    created: float
    filename: str
    purpose: str
    seconds: float | None = None
    """For which the file is kept."""
    media: str = ""
    status: Literal["pending", "completed", "cancelled"] = "pending"
    parts: list[str] = []
    """The files that hold them, in the order in which they came."""
    file: str = ""
    """What became of them."""

    @property
    def told(self) -> str:
        """The status as clients read it."""
        return "expired" if self.status == "pending" and time.time() > self.created + _SECONDS else self.status


def body(upload: Waiting, file: dict[str, Any] | None = None) -> dict[str, Any]:
    """An upload as OpenAI's clients read it."""
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": int(upload.created),
        "expires_at": int(upload.created) + _SECONDS,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.told,
        "file": file,
    }


def _read(desk: Desk, identifier: str) -> Waiting:
    """Raises NotFound and Damaged."""
    try:
        if identifier.startswith("upload_"):
            return _decoded(desk.kept.get(identifier))
    except NotFound:
        pass
    raise NotFound(f"there is no upload {identifier[:80]!r}", "Begin one: POST /v1/uploads")


def _decoded(text: bytes) -> Waiting:
    try:
        return msgspec.json.decode(text, type=Waiting)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged("the upload cannot be read", "Begin another") from error


def _require_pending(upload: Waiting) -> None:
    if upload.told != "pending":
        raise BadInput(f"the upload {upload.id} is {upload.told}", "Begin another")


def _save(desk: Desk, upload: Waiting) -> None:
    desk.kept.change(upload.id, lambda _: msgspec.json.encode(upload))


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /uploads: begin one."""
    asked = await decoded(incoming.body, UploadRequest)
    files.check_purpose(asked.purpose)
    if asked.bytes > MAX_FILE:
        raise TooLarge(f"the file is larger than {size_text(MAX_FILE)}", "Send several files", param="bytes")
    await asyncio.to_thread(desk.files.admit, asked.bytes)
    upload = Waiting(
        id=f"upload_{secrets.token_hex(12)}",
        bytes=asked.bytes,
        created=time.time(),
        filename=asked.filename,
        purpose=asked.purpose,
        seconds=asked.expires_after.seconds if asked.expires_after else None,
        media=asked.mime_type,
    )
    if not await asyncio.to_thread(desk.kept.put, upload.id, msgspec.json.encode(upload)):
        raise NoRoom("there is no room to remember an upload", "Raise FREEHOLD_KEPT_ANSWERS, or send the file whole")
    return json_response(body(upload))


async def add_part(incoming: Incoming, desk: Desk) -> Response:
    """POST /uploads/{id}/parts: one part of the file."""
    identifier = incoming.path["upload"]
    upload = await asyncio.to_thread(_read, desk, identifier)
    _require_pending(upload)
    async with form(incoming, desk.files, "data") as sent:
        if sent.upload.size > upload.bytes:
            raise BadInput(f"the part is larger than the {upload.bytes} bytes of all", "Send less", param="data")
        keep = desk.files.keep
        kept = await asyncio.to_thread(keep, sent.upload, "part", _PURPOSE, seconds=float(_SECONDS))

    def added(text: bytes) -> bytes:
        now = _decoded(text)
        _require_pending(now)
        if len(now.parts) >= _MOST_PARTS:
            raise BadInput(f"the upload has {_MOST_PARTS} parts already", "Send larger ones", param="data")
        now.parts.append(kept.id)
        return msgspec.json.encode(now)

    try:
        await asyncio.to_thread(desk.kept.change, identifier, added)
    except BaseException:
        await asyncio.to_thread(desk.files.remove, kept.id)
        raise
    told = {"id": _part(kept.id), "object": "upload.part", "created_at": int(kept.created), "upload_id": identifier}
    return json_response(told)


def _part(file: str) -> str:
    return file.replace("file-", "part_", 1)


async def complete(incoming: Incoming, desk: Desk) -> Response:
    """POST /uploads/{id}/complete: make a file of the parts, in the order given."""
    asked = await decoded(incoming.body, CompleteRequest)
    return json_response(await asyncio.to_thread(_completed, desk, incoming.path["upload"], asked))


def _completed(desk: Desk, identifier: str, asked: CompleteRequest) -> dict[str, Any]:
    upload = _read(desk, identifier)
    _require_pending(upload)
    known = {_part(file): file for file in upload.parts}
    unknown = [part for part in asked.part_ids if part not in known]
    if unknown or len(set(asked.part_ids)) != len(asked.part_ids):
        raise BadInput(f"no part of its own is called {(unknown or asked.part_ids)[0][:80]!r}", "Name each part once",
                       param="part_ids")  # fmt: skip
    paths = [desk.files.path(known[part]) for part in asked.part_ids]
    digest = hashlib.md5(usedforsecurity=False)  # which the API has
    with desk.files.receiving() as whole:
        for piece in _pieces(paths):
            digest.update(piece)
            whole.write(piece)
        if whole.size != upload.bytes:
            raise BadInput(f"the parts have {whole.size} bytes, and {upload.bytes} were announced", "Send the rest",
                           param="part_ids")  # fmt: skip
        if asked.md5 and asked.md5.lower() != digest.hexdigest():
            raise BadInput(f"the MD5 of the parts is {digest.hexdigest()}", "Send them again", param="md5")
        kept = desk.files.keep(whole, upload.filename, upload.purpose, seconds=upload.seconds, media=upload.media)
    upload.status, upload.file = "completed", kept.id
    _forget_parts(desk, upload)
    return body(upload, files.body(kept))


def _pieces(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def _forget_parts(desk: Desk, upload: Waiting) -> None:
    parts, upload.parts = upload.parts, []
    _save(desk, upload)
    for part in parts:
        try:
            desk.files.remove(part)
        except NotFound:
            continue  # it was old enough to go by itself


async def cancel(incoming: Incoming, desk: Desk) -> Response:
    """POST /uploads/{id}/cancel: take no more parts of it."""

    def work() -> dict[str, Any]:
        upload = _read(desk, incoming.path["upload"])
        _require_pending(upload)
        upload.status = "cancelled"
        _forget_parts(desk, upload)
        return body(upload)

    return json_response(await asyncio.to_thread(work))


ROUTES = (
    Route("POST", "/uploads", "infer", create, body=UploadRequest),
    Route("POST", "/uploads/{upload}/parts", "infer", add_part, "chunks"),
    Route("POST", "/uploads/{upload}/complete", "infer", complete, body=CompleteRequest),
    Route("POST", "/uploads/{upload}/cancel", "infer", cancel, "any"),
)
