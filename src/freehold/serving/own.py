"""Freehold's own routes: health, and the workers for `freehold ps` and `freehold stop`."""

import os
import time

import msgspec
from starlette.responses import Response

from freehold.core.errors import BadInput, FreeholdError
from freehold.guard import strict_json
from freehold.serving import docs
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.pool import Held, Key, Loading
from freehold.serving.routes import Dialect, Incoming, Route
from freehold.serving.state import LoadInfo, Stopped, WorkerInfo, Workers


class StopOrder(msgspec.Struct, forbid_unknown_fields=True):
    """What to stop: one model, or all."""

    model: str | None = None
    all: bool = False


def _error(error: FreeholdError) -> Response:
    described = {"code": error.code, "message": error.message, "remedy": error.remedy}
    return json_response({"error": described}, error.status)


async def _health(incoming: Incoming, desk: Desk) -> Response:
    """GET /health: whether the server runs."""
    return json_response({"status": "ok", "pid": os.getpid()})


async def _ready(incoming: Incoming, desk: Desk) -> Response:
    """GET /ready: whether requests are answered now; 503 with a reason if not."""
    reason = await desk.unready()
    if reason:
        return json_response({"status": "not ready", "reason": reason}, 503, {"retry-after": "1"})
    return json_response({"status": "ready"})


async def _workers(incoming: Incoming, desk: Desk) -> Response:
    """GET /freehold/v1/workers: what is loaded, and what is being loaded."""
    loading = [_loading(key, each) for key, each in desk.pool.loading]
    return json_response(Workers([_info(held, desk) for held in desk.pool.workers], loading))


def _loading(key: Key, loading: Loading) -> LoadInfo:
    seconds = round(time.monotonic() - loading.since, 3)
    return LoadInfo(loading.model.label, key.digest.text, round(loading.part, 2), seconds)


def _info(held: Held, desk: Desk) -> WorkerInfo:
    return WorkerInfo(
        model=held.model.label,
        digest=held.key.digest.text,
        pid=held.worker.pid,
        task="embed" if held.key.embedding else "generate",
        memory=held.worker.memory,
        context_length=held.worker.context_length,
        busy=held.users,
        served=held.served,
        pinned=held.key.digest in desk.pool.pinned,
    )


async def _store(incoming: Incoming, desk: Desk) -> Response:
    """GET /freehold/v1/store: what the background check of the store found."""
    return json_response({"checked": desk.scrub.checked, "damage": desk.scrub.damage})


async def _stop(incoming: Incoming, desk: Desk) -> Response:
    """POST /freehold/v1/workers/stop: unload one model, or all."""
    try:
        order = msgspec.convert(strict_json.parse(incoming.body), StopOrder)
    except msgspec.ValidationError as error:
        raise BadInput(f"wrong order: {error}", 'Send {"model": "name"} or {"all": true}') from error
    if order.model is None and not order.all:
        raise BadInput("the order names no model", 'Send {"model": "name"} or {"all": true}')
    digest = None if order.model is None else await desk.digest(order.model)
    return json_response(Stopped(await desk.pool.stop(digest)))


OWN = Dialect(
    name="freehold",
    mounts=("",),
    routes=(
        Route("GET", "/health", "public", _health),
        Route("GET", "/ready", "public", _ready),
        Route("GET", "/freehold/v1/workers", "read", _workers),
        Route("GET", "/freehold/v1/store", "read", _store),
        Route("POST", "/freehold/v1/workers/stop", "manage", _stop, body=StopOrder),
        *docs.ROUTES,
    ),
    error=_error,
)
