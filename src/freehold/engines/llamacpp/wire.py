"""Requests as llama-server's JSON, its stream as events. Pure: no IO."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from freehold.core.errors import BadInput, ContextOverflow, FreeholdError, Unsupported, WorkerFailed
from freehold.core.event import (
    Event,
    Finished,
    FinishReason,
    Logprobs,
    Progress,
    Reasoning,
    Text,
    Timings,
    TokenLogprob,
    ToolCallPart,
    Usage,
)
from freehold.core.request import Constraint, Image, Message, Request, Sampling, Tool, pieces
from freehold.formats import images

_SAMPLING = tuple(name for name in Sampling.__struct_fields__ if name not in ("seed", "logit_bias"))
_HANDLING = {"slot": "id_slot", "keep": "n_keep", "indent": "n_indent", "milliseconds": "t_max_predict_ms"}
# How the wheel's llguidance reads a schema: one blank after commas and colons, as most training data has it; by default
# a weak model can write blanks until its context is full. A server built without llguidance ignores it.
_GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_TOO_LONG = re.compile(r"input \((\d+) tokens\) is too large.*batch size: (\d+)")
_SCHEMA_ERROR = "JSON schema error"
_MISCOUNTED = "Failed to tokenize prompt"
_RANDOM_SEED = 0xFFFFFFFF
_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


def message_body(message: Message) -> dict[str, Any]:
    """One turn as the chat route takes it."""
    body: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    if message.name:
        body["name"] = message.name
    if message.reasoning:
        body["reasoning_content"] = message.reasoning
    return body


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.content
    return [
        {"type": "text", "text": piece}
        if isinstance(piece, str)
        else {"type": "image_url", "image_url": {"url": images.url_of(piece)}}
        for piece in pieces(message.content, message.images)
    ]


def outlined(request: Request) -> Request:
    """The request with images of no content, for what has a prompt rendered: it stands marks in their places."""
    if not request.seen:
        return request
    messages = (
        msgspec.structs.replace(
            message, images=tuple(msgspec.structs.replace(image, data=b"\0") for image in message.images)
        )
        for message in request.messages
    )
    return msgspec.structs.replace(request, messages=tuple(messages))


def marked(text: str, seen: Sequence[Image], mark: str) -> str:
    """The text with the server's mark for each image in its place."""
    return "".join(piece if isinstance(piece, str) else mark for piece in pieces(text, seen))


def illustrated(prompt: str, seen: Sequence[Image]) -> dict[str, Any]:
    """A prompt with marks, and the images that they stand for, as /completion takes it."""
    return {"prompt_string": prompt, "multimodal_data": [base64.b64encode(image.data).decode() for image in seen]}


def tool_body(tool: Tool) -> dict[str, Any]:
    """One tool as the chat route takes it."""
    return {"type": "function", "function": msgspec.structs.asdict(tool)}


def stops_here(request: Request) -> bool:
    """Whether stop sequences are looked for on this side, which tells which one it was.

    Not with log-probabilities: the server takes those of a stop sequence away.
    """
    return bool(request.stop) and request.logprobs is None and not request.detail


def generation_body(request: Request, choices: range) -> dict[str, Any]:
    """The fields about drawing tokens, for the given choices of a request, shared by both routes."""
    sampling, handling = request.sampling, request.handling
    given = ((name, getattr(sampling, name)) for name in _SAMPLING)
    body: dict[str, Any] = {name: value for name, value in given if value is not None}
    body |= {
        "stream": True,
        "return_progress": True,
        "n": len(choices),
        "cache_prompt": sampling.seed is None if handling.cache is None else handling.cache,
        "stop": [] if stops_here(request) else list(request.stop),
        "timings_per_token": stops_here(request),
    }
    body |= {name: value for field, name in _HANDLING.items() if (value := getattr(handling, field)) is not None}
    if handling.adapters is not None:
        body["lora"] = [{"id": number, "scale": scale} for number, scale in handling.adapters.items()]
    if sampling.seed is not None:
        body["seed"] = min((sampling.seed + choices.start) & 0xFFFFFFFF, _RANDOM_SEED - 1)
    if sampling.logit_bias:
        body["logit_bias"] = [[token, bias] for token, bias in sampling.logit_bias.items()]
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    return body


def conversation_body(request: Request) -> dict[str, Any]:
    """What a chat template reads."""
    body: dict[str, Any] = {"messages": [message_body(message) for message in request.messages]}
    if request.tools and request.tool_choice != "none":
        body["tools"] = [tool_body(tool) for tool in request.tools]
    if not request.open_turn:
        body["add_generation_prompt"] = False
    wanted: dict[str, Any] = {} if request.think is None else {"enable_thinking": request.think}
    wanted |= request.template
    if request.effort:
        wanted["reasoning_effort"] = request.effort
    return body | ({"chat_template_kwargs": wanted} if wanted else {})


def chat_body(request: Request, choices: range) -> dict[str, Any]:
    """The body of /v1/chat/completions."""
    body = generation_body(request, choices) | conversation_body(request)
    if "tools" in body:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": max(1, request.logprobs)}
    return body


def completion_body(
    request: Request, choices: range, prompt: str | Sequence[int], constraint: Constraint | None
) -> dict[str, Any]:
    """The body of /v1/completions."""
    body = generation_body(request, choices) | {"prompt": prompt}
    if request.logprobs is not None:
        body["logprobs"] = max(1, request.logprobs)
    if constraint is not None:
        body |= constraint_body(constraint)
    return body


def constraint_body(constraint: Constraint) -> dict[str, Any]:
    """The fields that make the output match."""
    if constraint.kind == "grammar":
        return {"grammar": constraint.grammar}
    schema = constraint.schema if constraint.kind == "schema" else {"type": "object"}
    return {"json_schema": {**schema, "x-guidance": _GUIDANCE}}


class StreamReader:
    """Turns the server's chunks into events of the `choices`; each keeps `alternatives` logprobs.

    A chunk of another form than the server's raises what Python raises of it.
    """

    def __init__(self, choices: range, alternatives: int | None, *, progress: bool = False) -> None:
        self._choices = choices
        self._progress = progress
        self._alternatives = alternatives
        self.open = set(choices)
        """Choices that have not finished."""
        self.prompt_tokens = 0
        """Of the prompt, as soon as the server says it."""
        self._timings: Mapping[str, Any] = {}
        self._bare: dict[int, int] = {}
        """The call of a choice that has no arguments yet."""

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events that one chunk holds. Raises the error that it reports."""
        if "error" in chunk:
            raise error_of(chunk)
        self.prompt_tokens = self.prompt_tokens or int((chunk.get("prompt_progress") or {}).get("total", 0))
        self._timings = chunk.get("timings") or self._timings
        if self._progress and "prompt_progress" in chunk:
            yield Progress({"prompt_progress": chunk["prompt_progress"]}, self._choices.start)
        for choice in chunk.get("choices", ()):
            index = self._choices[choice.get("index", 0)]
            yield from self._logprobs(choice, index)  # first, so that a dialect can send both in one piece
            for part in _parts(choice, index):
                yield from self._called(part) if isinstance(part, ToolCallPart) else (part,)
            if reason := choice.get("finish_reason"):
                self.open.discard(index)
                if reason != "length":
                    yield from self._filled(index)
                yield self._finished(reason, index)

    def end(self, index: int, stop: str) -> Finished:
        """The end of a choice at a stop sequence that was found on this side."""
        self.open.discard(index)
        return msgspec.structs.replace(self._finished("stop", index), stop=stop)

    def _called(self, part: ToolCallPart) -> Iterator[Event]:
        """A part of a call, once the call before it is whole."""
        if self._bare.get(part.index) != part.call:
            yield from self._filled(part.index)
        if part.arguments:
            self._bare.pop(part.index, None)
        elif part.name:
            self._bare[part.index] = part.call
        yield part

    def _filled(self, index: int) -> Iterator[Event]:
        """The arguments of a call that the model made without any: clients read them as JSON."""
        call = self._bare.pop(index, None)
        if call is not None:
            yield ToolCallPart(call, arguments="{}", index=index)

    def _logprobs(self, choice: Mapping[str, Any], index: int) -> Iterator[Event]:
        content = (choice.get("logprobs") or {}).get("content")
        if content and self._alternatives is not None:
            yield Logprobs(tuple(_token(item, self._alternatives) for item in content), index)

    def _finished(self, reason: str, index: int) -> Finished:
        timings = self._timings
        cached = int(timings.get("cache_n", 0))
        prompt = cached + int(timings.get("prompt_n", 0))
        counted = index == 0  # the choices share one prompt: the sum over all choices is what the request took
        return Finished(
            _REASONS.get(reason, "stop"),
            Usage(prompt if counted else 0, int(timings.get("predicted_n", 0)), cached if counted else 0),
            Timings(float(timings.get("prompt_ms", 0.0)), float(timings.get("predicted_ms", 0.0))),
            index,
        )


def _parts(choice: Mapping[str, Any], index: int) -> Iterator[Event]:
    delta = choice.get("delta", choice)
    if thought := text_in(delta, "reasoning_content"):
        yield Reasoning(thought, index)
    if text := text_in(delta, "content") or text_in(delta, "text"):
        yield Text(text, index)
    for call in delta.get("tool_calls") or ():
        function = call.get("function", {})
        yield ToolCallPart(
            int(call.get("index", 0)),
            id=text_in(call, "id"),
            name=text_in(function, "name"),
            arguments=text_in(function, "arguments"),
            index=index,
        )


def text_in(body: Mapping[str, Any], name: str) -> str:
    """A field that is text, null or not there. Raises TypeError for anything else."""
    found = body.get(name)
    if not isinstance(found, str | None):
        raise TypeError(f"{name} is no text")
    return found or ""


def _token(item: Mapping[str, Any], alternatives: int) -> TokenLogprob:
    raw = bytes(item.get("bytes") or ())
    top: Sequence[Mapping[str, Any]] = item.get("top_logprobs") or ()
    return TokenLogprob(
        token=raw.decode("utf-8", "replace") or item.get("token", ""),
        logprob=float(item["logprob"]),
        bytes=tuple(raw),
        top=tuple(_token(other, 0) for other in top[:alternatives]),
        id=int(item.get("id", -1)),
    )


def error_of(body: Mapping[str, Any]) -> FreeholdError:
    """The server's error as ours."""
    found = body.get("error")
    error: Mapping[str, Any] = found if isinstance(found, Mapping) else {"message": str(found)}
    message = " ".join(str(error.get("message", "no message")).split())[:500]
    kind, code = error.get("type"), error.get("code", 500)
    if kind == "exceed_context_size_error":
        return context_overflow(error.get("n_prompt_tokens", 0), error.get("n_ctx", 0))
    if too_long := _TOO_LONG.search(message):
        return context_overflow(int(too_long[1]), int(too_long[2]))
    if kind == "not_supported_error":
        return Unsupported(message)
    if message == _MISCOUNTED:
        return BadInput("the model's chat template does not take these images", "Send them in the user's messages")
    if isinstance(code, int) and 400 <= code < 500:
        return BadInput(message[max(0, message.find(_SCHEMA_ERROR)) :], "Change the request")
    return WorkerFailed(f"the engine could not answer: {message}", "Try again")


def context_overflow(tokens: int, context: int) -> ContextOverflow:
    """The prompt has more tokens than the context."""
    return ContextOverflow(
        f"the prompt has {tokens} tokens and the context holds {context}",
        "Shorten it, or raise FREEHOLD_CONTEXT_LENGTH if the model was trained with more",
        param="messages",
        tokens=tokens,
        context=context,
    )
