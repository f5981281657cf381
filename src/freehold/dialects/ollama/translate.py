"""Ollama's requests as ours. Pure. What cannot be done is refused by name; what changes an answer is never dropped."""

import re
from collections.abc import Iterator, Sequence

import msgspec

from freehold.core import spans
from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import (
    FOREVER,
    Constraint,
    EmbedRequest,
    Image,
    Insert,
    Message,
    Request,
    Sampling,
    Tool,
    ToolCall,
    joined,
)
from freehold.dialects.ollama import schema as wire
from freehold.formats import images

_TAG = re.compile(r"\[img-(\d{1,3})\]", re.ASCII)


def chat_request(body: wire.ChatRequest, model: str) -> Request:
    """A chat with the model of the catalog that is called so. Raises BadInput and Unsupported."""
    request = _request(body, model)
    messages = tuple(_turns(body.messages or ()))
    return msgspec.structs.replace(
        request, messages=messages, tools=tuple(_tool(tool) for tool in body.tools or ()), truncate=bool(body.truncate)
    )


def generate_request(body: wire.GenerateRequest, model: str) -> Request:
    """One prompt, as a chat of one turn or, if `raw`, as it is. Raises BadInput and Unsupported."""
    seen = _images(body.images, "images")
    request = _request(body, model)
    if body.suffix:
        _refuse_beside_suffix(body)
        return msgspec.structs.replace(request, prompt="", insert=Insert(body.prompt or "", body.suffix))
    if body.raw:
        if body.template or body.system or body.context:
            raise BadInput("raw mode does not support template, system, or context", "Leave them out", param="raw")
        text, placed = _tagged(body.prompt or "", seen)
        return msgspec.structs.replace(request, prompt=text, images=placed)
    for name in ("template", "context"):
        if seen and getattr(body, name):
            raise Unsupported(f"images are not taken with a {name}", f"Leave out {name}, or use /api/chat", param=name)
    system = (Message("system", body.system),) if body.system else ()
    return msgspec.structs.replace(request, messages=(*system, Message("user", body.prompt or "", images=seen)))


def _refuse_beside_suffix(body: wire.GenerateRequest) -> None:
    """Raises BadInput for what no prompt with a suffix has."""
    for name in ("raw", "system", "context", "think"):
        if getattr(body, name):
            raise BadInput(f"{name} does not go with a suffix", f"Leave out {name} or the suffix", param=name)


def embed_request(body: wire.EmbedRequest, model: str) -> EmbedRequest | None:
    """Texts to embed; None when there are none."""
    inputs = [body.input] if isinstance(body.input, str) else list(body.input or ())
    if inputs == [""]:
        inputs = []
    if "" in inputs:
        raise BadInput("an input is empty", "Send some text", param="input")
    keep_alive = seconds(body.keep_alive)
    if not inputs:
        return None
    return EmbedRequest(model=model, inputs=tuple(inputs), truncate=bool(body.truncate), keep_alive=keep_alive)


def seconds(duration: str | float | None) -> float | None:
    """How long to keep a model: in seconds or as Go writes it (`1h30m`); below zero is for good. Raises BadInput."""
    if duration is None:
        return None
    if isinstance(duration, str):
        duration = _parsed(duration)
    return min(float(duration), FOREVER) if duration >= 0 else FOREVER


def _parsed(text: str) -> float:
    try:
        return spans.seconds(text)
    except ValueError as error:
        remedy = "Write 5m, 1h30m or a number of seconds"
        raise BadInput(f"invalid duration {text[:40]!r}", remedy, param="keep_alive") from error


def _request(body: wire.ChatRequest | wire.GenerateRequest, model: str) -> Request:
    options = body.options or wire.Options()
    stops = [options.stop] if isinstance(options.stop, str) else options.stop or []
    return Request(
        model=model,
        constraint=_constraint(body.format),
        sampling=_sampling(options),
        max_tokens=options.num_predict if (options.num_predict or 0) > 0 else None,  # the others set no limit
        stop=tuple(stop for stop in stops if stop),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        think=None if body.think is None else body.think is not False,
        effort={"max": "high"}.get(body.think, body.think) if isinstance(body.think, str) else "",
        context_length=max(16, options.num_ctx) if options.num_ctx else None,
        keep_alive=seconds(body.keep_alive),
    )


def _sampling(options: wire.Options) -> Sampling:
    """As Ollama means it: -1 for seed and top_k is no wish."""
    return Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=None if options.top_k is None else min(max(0, options.top_k), 1 << 20),
        min_p=options.min_p,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        repeat_penalty=options.repeat_penalty,
        seed=None if options.seed is None or options.seed < 0 else options.seed,
    )


def _constraint(wanted: wire.Format) -> Constraint | None:
    if isinstance(wanted, dict):
        return Constraint("schema", wanted) if wanted else None
    return Constraint("json") if wanted == "json" else None


def _turns(messages: Sequence[wire.Message]) -> Iterator[Message]:
    """The turns. Calls without an id are numbered, and answers of tools bound to them by name and order."""
    waiting: list[ToolCall] = []
    number = 0
    for message in messages:
        seen = _images(message.images, "messages")
        if message.role == "tool":
            answered = _answered(message, waiting)
            if answered is not None:
                waiting.remove(answered)
            name = message.tool_name or (answered.name if answered else "")
            call_id = message.tool_call_id or (answered.id if answered else "")
            yield Message("tool", message.content or "", tool_call_id=call_id, name=name, images=seen)
            continue
        calls = [
            ToolCall(call.id or f"call_{number + place}", call.function.name, _json(call.function.arguments))
            for place, call in enumerate(message.tool_calls or ())
        ]
        number += len(calls)
        waiting += calls
        thought = message.thinking or ""
        yield Message(message.role, message.content or "", tool_calls=tuple(calls), reasoning=thought, images=seen)


def _answered(message: wire.Message, waiting: Sequence[ToolCall]) -> ToolCall | None:
    def fits(call: ToolCall) -> bool:
        return message.tool_call_id in (None, "", call.id) and message.tool_name in (None, "", call.name)

    return next((call for call in waiting if fits(call)), None)


def _json(arguments: object) -> str:
    return msgspec.json.encode(arguments).decode()


def _tool(tool: wire.Tool) -> Tool:
    return Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})


def _images(given: Sequence[str] | None, param: str) -> tuple[Image, ...]:
    """Images of a turn, which stand before its text. Raises BadInput and TooLarge."""
    return tuple(images.of_base64(text, param=param) for text in given or ())


def _tagged(prompt: str, seen: Sequence[Image]) -> tuple[str, tuple[Image, ...]]:
    """A raw prompt without the tags `[img-0]` that say where its images stand; one without a tag stands before all."""
    pieces: list[str | Image] = []
    placed: set[int] = set()
    begin = 0
    for tag in _TAG.finditer(prompt):
        number = int(tag[1])
        if number < len(seen) and number not in placed:
            pieces += [prompt[begin : tag.start()], seen[number]]
            placed.add(number)
            begin = tag.end()
    first = [image for number, image in enumerate(seen) if number not in placed]
    return joined([*first, *pieces, prompt[begin:]])
