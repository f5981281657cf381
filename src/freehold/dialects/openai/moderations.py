"""OpenAI's moderations, judged by rules that say what they are: their name stands where the model's would."""

import asyncio
import uuid
from typing import Any

from starlette.responses import Response

from freehold.core.errors import BadInput, TooLarge, UnknownModel, Unsupported
from freehold.dialects.openai.batch_schema import InputPart, ModerationRequest
from freehold.guard import moderation
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.routes import Incoming, Route

_STANDS_FOR = ("omni-moderation-", "text-moderation-")
"""Beginnings of the names that OpenAI's clients ask for, in whose place the rules are."""


async def moderations(incoming: Incoming, desk: Desk) -> Response:
    """POST /moderations: what rules say of texts."""
    return json_response(await asyncio.to_thread(judged, await decoded(incoming.body, ModerationRequest)))


def judged(body: ModerationRequest) -> dict[str, Any]:
    """The answer. Raises BadInput, TooLarge, UnknownModel and Unsupported."""
    name = moderation.rules().name
    if body.model and body.model != name and not body.model.startswith(_STANDS_FOR):
        raise UnknownModel(
            f"no moderation by {body.model[:80]!r}", f"Leave out model, or ask for {name!r}", param="model"
        )
    texts = _texts(body)
    if sum(map(len, texts)) > moderation.MAX_TEXT:
        raise TooLarge(f"the texts have more than {moderation.MAX_TEXT} characters", "Send fewer", param="input")
    return {
        "id": f"modr-{uuid.uuid4().hex}",
        "model": name,
        "results": [_result(moderation.judge(text)) for text in texts],
    }


def _texts(body: ModerationRequest) -> list[str]:
    """The texts that are judged each by itself; the parts of one message are one text."""
    given = [body.input] if isinstance(body.input, str) else body.input
    if not given:
        raise BadInput("there is nothing to judge", "Send some text", param="input")
    parts = [each for each in given if isinstance(each, InputPart)]
    if parts and len(parts) != len(given):
        raise BadInput("the input mixes texts with parts", "Send either", param="input")
    return ["\n".join(map(_text, parts))] if parts else [each for each in given if isinstance(each, str)]


def _text(part: InputPart) -> str:
    if part.type != "text" or part.text is None:
        raise Unsupported(
            f"input of type {part.type[:40]!r} is not judged", "Send text: the rules see no images", param="input"
        )
    return part.text


def _result(verdict: moderation.Verdict) -> dict[str, Any]:
    return {
        "flagged": bool(verdict.flagged),
        "categories": {name: name in verdict.flagged for name in moderation.CATEGORIES},
        "category_scores": verdict.scores,
        "category_applied_input_types": {name: ["text"] for name in moderation.CATEGORIES},
    }


ROUTES = (Route("POST", "/moderations", "infer", moderations, body=ModerationRequest),)
