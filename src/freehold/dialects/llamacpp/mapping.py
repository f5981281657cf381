"""What a request leaves to the server: which model is meant, prompts of mixed pieces, biases by text."""

from typing import Any

import msgspec

from freehold.core.errors import BadInput
from freehold.core.request import Image, Request
from freehold.dialects.llamacpp import schema as wire
from freehold.dialects.llamacpp import translate
from freehold.serving.desk import Desk
from freehold.serving.routes import Incoming

MARK = "<__media__>"
"""What stands for an image where a client does not ask for this server's own mark: `mtmd_default_marker()`."""


async def model_of(incoming: Incoming, desk: Desk, named: str | None = "") -> str:
    """The model that is meant: the one named, else the one loaded last, else the only one. Raises BadInput."""
    if desk.sole is not None:
        return desk.sole.label
    wanted = named or incoming.query.get("model", "")
    if wanted:
        return wanted
    loaded = sorted(desk.pool.workers, key=lambda held: held.last_used)
    if loaded:
        return loaded[-1].model.label
    entries = await desk.models()
    if len(entries) != 1:
        raise BadInput("no model is named and none is loaded", "Send a model with the request", param="model")
    return str(entries[0].name)


async def resolved(desk: Desk, model: str, given: Any) -> str | tuple[int, ...]:
    """One prompt as a text or as tokens. Texts amid tokens are read as they stand, the first with what begins a text.

    Raises what `translate.text_of` raises.
    """
    if isinstance(given, wire.PromptObject | wire.InputObject):
        return translate.text_of(given)
    if isinstance(given, str):
        return given
    tokens: list[int] = []
    for place, item in enumerate(given):
        if isinstance(item, str):
            tokens += await desk.tokenize(Request(model=model), item, special=place == 0)
        else:
            tokens.append(item)
    return tuple(tokens)


async def illustrated(desk: Desk, model: str, given: Any) -> tuple[str | tuple[int, ...], tuple[Image, ...]]:
    """The same of a prompt in which images may stand, and these. Raises BadInput and TooLarge."""
    if isinstance(given, wire.PromptObject) and given.multimodal_data:
        told = await desk.ask(Request(model=model), "properties")
        return translate.illustrated(given, [str(told["media_marker"]), MARK])
    return await resolved(desk, model, given), ()


async def biased(desk: Desk, request: Request, given: Any) -> Request:
    """The request with the biases; of a text each token has it. Raises BadInput."""
    if not given:
        return request
    biases: dict[int, float] = {}
    for what, bias in given.items() if isinstance(given, dict) else given:
        if isinstance(bias, str):
            raise BadInput(f"the bias {bias[:40]!r} is no number", "Send a number, or false", param="logit_bias")
        for token in await _tokens(desk, request.model, what):
            biases[token] = translate.bias_of(bias)
    sampling = msgspec.structs.replace(request.sampling, logit_bias=biases)
    return msgspec.structs.replace(request, sampling=sampling)


async def _tokens(desk: Desk, model: str, what: str | float) -> list[int]:
    if isinstance(what, str) and not (what.isascii() and what.isdecimal() and len(what) <= 8):
        return await desk.tokenize(Request(model=model), what, special=False)
    return [int(what)]
