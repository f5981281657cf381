"""Answers of one JSON object a line."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import FreeholdError
from freehold.dialects.ollama import answers
from freehold.serving.desk import Desk
from freehold.serving.http import LineStream, json_response, while_connected
from freehold.serving.reporting import reports
from freehold.serving.routes import Incoming

Lines = AsyncGenerator[dict[str, Any], None]
Tell = Callable[[dict[str, Any]], None]


async def stream(incoming: Incoming, lines: Lines) -> Response:
    """The lines as they come. What goes wrong before the first is raised, what goes wrong later is the last line."""
    try:
        first = await while_connected(incoming.gone, anext(lines))
    except BaseException:
        await lines.aclose()
        raise
    return LineStream(_encoded(first, lines), lines)


async def reported(incoming: Incoming, desk: Desk, work: Callable[[Tell], None], *, streamed: bool) -> Response:
    """The reports of long work as lines, or its last one alone."""
    told = reports(desk.long_work, work)
    if streamed:
        return await stream(incoming, told)

    async def last() -> dict[str, Any]:
        return [report async for report in told][-1]

    try:
        return json_response(await while_connected(incoming.gone, last()))
    finally:
        await told.aclose()


async def _encoded(first: dict[str, Any], rest: Lines) -> AsyncGenerator[bytes, None]:
    yield msgspec.json.encode(first) + b"\n"
    try:
        async for line in rest:
            yield msgspec.json.encode(line) + b"\n"
    except FreeholdError as error:
        yield msgspec.json.encode(answers.error_body(error)) + b"\n"
