"""Asking the desk for whole answers."""

from contextlib import aclosing
from typing import Any

from freehold.core.request import Request
from freehold.dialects.anthropic import answers
from freehold.serving.desk import Desk


async def whole(desk: Desk, request: Request, answer: answers.Answer) -> dict[str, Any]:
    """The message that answers a request. Raises FreeholdError."""
    async with aclosing(desk.generate(request)) as events:
        async for event in events:
            for _ in answer.feed(event):
                pass
    return answer.body()
