"""Ollama's routes for the models that are here: list, show, running ones, copy, delete."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import Damaged, NotFound, Unsupported
from freehold.core.manifest import Details
from freehold.core.name import SEPARATOR, Name
from freehold.dialects.ollama import models, names, schema
from freehold.formats import gguf
from freehold.formats.modelfile import Modelfile
from freehold.serving import abilities
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.pool import Held
from freehold.serving.routes import Incoming, Route
from freehold.store import Store, creating


async def tags(incoming: Incoming, desk: Desk) -> Response:
    """GET /api/tags: the models."""
    found = await asyncio.to_thread(desk.store.listing)
    return json_response({"models": [models.tagged(each) for each in found]})


async def show(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/show: what a model is."""
    body = await decoded(incoming.body, schema.Named)
    return json_response(await asyncio.to_thread(_shown, desk.store, names.asked(body), verbose=bool(body.verbose)))


def _shown(store: Store, text: str, *, verbose: bool) -> dict[str, Any]:
    name = names.own(store, text)
    manifest = store.get(name)
    part = manifest.part("gguf")
    header = gguf.read_header(store.path(part.digest)) if part else None
    made = creating.modelfile_of(store, name)
    if made.template is None and header is not None:
        made = msgspec.structs.replace(made, template=str(header.metadata.get("tokenizer.chat_template", "")))
    able = abilities.of(store, manifest)
    known = {"vision": able.vision, "tools": able.tools, "insert": able.insert, "thinking": able.thinking}
    info = models.info_of(header, verbose=verbose) if header else models.info_of_details(manifest.details)
    eye = manifest.part("projector")
    return models.shown(
        made,
        _written(made),
        manifest.details,
        info,
        models.info_of(gguf.read_header(store.path(eye.digest)), verbose=verbose) if eye else {},
        modified=store.catalog.bound(name)[0].modified,
        able=["embedding"] if able.embedding else ["completion", *(what for what, has in known.items() if has)],
    )


def _written(made: Modelfile) -> str:
    with suppress(Unsupported):  # of quotes that its syntax cannot hold: the fields beside it say all
        return made.text()
    return f"FROM {made.base}\n"


async def running(incoming: Incoming, desk: Desk) -> Response:
    """GET /api/ps: what is loaded."""
    return json_response(
        {"models": [await asyncio.to_thread(_running, desk.store, held) for held in desk.pool.workers]}
    )


def _running(store: Store, held: Held) -> dict[str, Any]:
    details = Details()
    with suppress(NotFound, Damaged):  # of another tool, or removed meanwhile
        details = store.manifest(held.key.digest).details
    label = held.model.label
    return models.running(
        label if SEPARATOR in label else names.full(Name.parse(label)),
        held.key.digest,
        held.worker.memory,
        details,
        context=held.worker.context_length,
        seconds=held.left,
    )


async def copy(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/copy: a second name."""
    body = await decoded(incoming.body, schema.CopyRequest)

    def work() -> None:
        creating.copy(desk.store, names.own(desk.store, body.source), names.new(body.destination))

    await asyncio.to_thread(work)
    return Response()


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /api/delete: forget a name."""
    text = names.asked(await decoded(incoming.body, schema.Named))
    await desk.forget(await asyncio.to_thread(names.own, desk.store, text))
    return Response()


ROUTES = (
    Route("GET", "/api/tags", "read", tags),
    Route("POST", "/api/show", "read", show, "any", schema.Named),
    Route("GET", "/api/ps", "read", running),
    Route("POST", "/api/copy", "manage", copy, "any", schema.CopyRequest),
    Route("DELETE", "/api/delete", "manage", delete, "any", schema.Named),
)
