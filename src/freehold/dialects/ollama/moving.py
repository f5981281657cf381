"""Ollama's routes that bring models here and send them elsewhere: pull and push."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping

from starlette.responses import Response

from freehold.core.digest import Digest
from freehold.dialects.ollama import names, schema
from freehold.dialects.ollama.lines import Tell, reported
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.routes import Incoming, Route
from freehold.store import pulling
from freehold.store.outbound import Outbound
from freehold.store.pushing import oci

_PACE = 0.1
"""Seconds between two reports on one file."""


async def pull(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/pull: fetch a model."""
    body = await decoded(incoming.body, schema.Named)
    text = names.asked(body)
    reference, name = names.remote(text), names.new(text)

    def work(tell: Tell) -> None:
        tell({"status": "pulling manifest"})
        with Outbound(desk.settings) as outbound:
            offer = pulling.look(reference, outbound)
            digests = {file.filename: file.digest for file in offer.files}
            pulling.take(desk.store, outbound, offer, name, on_progress=_paced(tell, digests))
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            tell({"status": status})

    return await reported(incoming, desk, work, streamed=body.stream is not False)


def _paced(tell: Tell, digests: Mapping[str, Digest | None]) -> Callable[[str, int, int], None]:
    """Progress on files as lines, some a second for each."""
    due: dict[str, float] = {}

    def progress(filename: str, done: int, size: int) -> None:
        now = time.monotonic()
        whole = done >= size
        if (whole and due.get(filename) == math.inf) or (not whole and now < due.get(filename, 0.0)):
            return
        due[filename] = math.inf if whole else now + _PACE
        digest = digests.get(filename)
        named = (
            {"status": f"pulling {digest.hex[:12]}", "digest": digest.text}
            if digest
            else {"status": f"pulling {filename}"}
        )
        tell({**named, "total": size, "completed": done})

    return progress


async def push(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/push: send a model to a registry."""
    body = await decoded(incoming.body, schema.Named)
    text = names.asked(body)
    name, target = await asyncio.to_thread(names.own, desk.store, text), names.target(text)

    def work(tell: Tell) -> None:
        tell({"status": "retrieving manifest"})
        digest = desk.store.resolve(name)
        pushing = {"status": f"pushing {digest.hex[:12]}", "digest": digest.text}
        oci.push(
            desk.store,
            name,
            target,
            desk.settings,
            lambda done, total: tell({**pushing, "total": total, "completed": done}),
        )
        tell({"status": "pushing manifest"})
        tell({"status": "success"})

    return await reported(incoming, desk, work, streamed=body.stream is not False)


ROUTES = (
    Route("POST", "/api/pull", "manage", pull, "any", schema.Named),
    Route("POST", "/api/push", "manage", push, "any", schema.Named),
)
