"""llama-server's requests as ours. Pure: what takes a tokenizer is `mapping`'s."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import (
    Beside,
    Constraint,
    Handling,
    Image,
    Insert,
    Message,
    Request,
    Sampling,
    Tool,
    ToolCall,
    joined,
)
from freehold.dialects.llamacpp import schema as wire
from freehold.dialects.openai import schema as openai
from freehold.dialects.openai.translate import content
from freehold.formats import images

MAX_PROMPTS = 128
_LETTERS = {
    "d": "dry", "e": "penalties", "i": "infill", "k": "top_k", "m": "min_p", "p": "top_p", "s": "top_n_sigma",
    "t": "temperature", "x": "xtc", "y": "typ_p", "a": "adaptive_p",
}  # fmt: skip
"""How the order of samplers is written in one word."""
_NAMES = {"stop", "seed", "logit_bias", "samplers", "dry_sequence_breakers", "top_k"}


def completion_request(
    body: wire.CompletionRequest, model: str, prompt: str | tuple[int, ...], seen: tuple[Image, ...] = ()
) -> Request:
    """One prompt's completion, with the images `seen` in it; without the biases that `body` gives by text.

    Raises BadInput.
    """
    insert = None
    if isinstance(body, wire.InfillRequest):
        files = tuple(Beside(each.filename, each.text) for each in body.input_extra)
        insert = Insert(body.input_prefix, body.input_suffix, files)
    return Request(
        model=model,
        prompt=prompt,
        images=seen,
        insert=insert,
        constraint=_constraint(body.grammar, body.json_schema),
        sampling=sampling(body),
        max_tokens=limit(body.n_predict, body.max_tokens),
        stop=stops(body.stop),
        logprobs=_first(body.n_probs, body.logprobs) or None,
        n=body.n_cmpl or body.n or 1,
        handling=msgspec.structs.replace(
            handling(body),
            after_sampling=body.post_sampling_probs,
            indent=body.n_indent,
            milliseconds=body.t_max_predict_ms,
        ),
        detail=True,
        progress=bool(body.timings_per_token or body.return_progress),
    )


def chat_request(body: wire.ChatRequest, model: str) -> Request:
    """A chat completion. Raises BadInput and Unsupported."""
    request = template_request(body, model)
    if body.top_logprobs and not body.logprobs:
        raise BadInput("top_logprobs needs logprobs", "Set logprobs to true", param="top_logprobs")
    given = [each for each in (body.grammar, body.json_schema, _formatted(body.response_format)) if each]
    if len(given) > 1:
        raise BadInput("grammar, json_schema and response_format exclude each other", "Send one of them")
    return msgspec.structs.replace(
        request,
        constraint=_constraint(body.grammar, body.json_schema) or _formatted(body.response_format),
        sampling=msgspec.structs.replace(sampling(body), logit_bias=_token_biases(body.logit_bias)),
        max_tokens=limit(body.max_completion_tokens, body.max_tokens, body.n_predict),
        stop=stops(body.stop),
        logprobs=(body.top_logprobs or 0) if body.logprobs else body.n_probs or None,
        n=body.n or 1,
        handling=handling(body),
        progress=body.return_progress is True,
    )


def template_request(body: wire.TemplateRequest, model: str) -> Request:
    """A conversation. Raises BadInput and Unsupported."""
    messages, prefill = _begun(body)
    tools = tuple(_tool(tool) for tool in body.tools or ())
    effort = body.reasoning_effort
    thinking = body.chat_template_kwargs.get("enable_thinking", None if effort is None else effort != "none")
    return Request(
        model=model,
        messages=messages,
        prefill=prefill,
        tools=tools,
        tool_choice=_tool_choice(body.tool_choice, tools),
        parallel_tool_calls=body.parallel_tool_calls is True,
        think=thinking if isinstance(thinking, bool) else None,
        effort="" if effort in (None, "none") else effort,
        template={key: value for key, value in body.chat_template_kwargs.items() if key != "enable_thinking"},
        open_turn=bool(prefill) or body.add_generation_prompt is not False,
    )


def sampling(body: wire.CompletionRequest | wire.ChatRequest) -> Sampling:
    """How tokens are drawn; without biases. Raises BadInput for a sampler that is not known."""
    same = {
        field: value
        for field in Sampling.__struct_fields__
        if field not in _NAMES and (value := getattr(body, field)) is not None
    }
    breakers = body.dry_sequence_breakers
    return Sampling(
        seed=None if body.seed in (None, -1, 0xFFFFFFFF) else body.seed,
        top_k=None if body.top_k is None else max(0, body.top_k),
        samplers=_samplers(body.samplers),
        dry_sequence_breakers=None if breakers is None else tuple(breakers),
        **same,
    )


def handling(body: wire.CompletionRequest | wire.ChatRequest) -> Handling:
    """How the engine goes about it."""
    return Handling(
        cache=body.cache_prompt is not False,
        slot=body.id_slot,
        adapters=None if body.lora is None else {each.id: each.scale for each in body.lora},
        keep=body.n_keep,
    )


def limit(*given: int | None) -> int | None:
    """The tokens of an answer: the first that is given; a negative number sets no limit. Raises BadInput for 0."""
    found = _first(*given)
    if found == 0:
        raise BadInput("an answer of no tokens is not made", "Ask for one at least", param="n_predict")
    return None if found is None or found < 0 else found


def stops(stop: Any) -> tuple[str, ...]:
    """Stop sequences."""
    if not stop:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def prompts(given: Any) -> list[Any]:
    """A prompt, or a list of prompts, as a list: numbers alone or mixed with texts are one. Raises BadInput."""
    if not isinstance(given, list):
        return [given]
    if any(isinstance(item, int) for item in given) and all(isinstance(item, int | str) for item in given):
        return [given]
    if any(isinstance(item, int) for item in given):
        raise BadInput("token ids stand beside lists or objects", "Put them into a list of their own", param="prompt")
    if not 0 < len(given) <= MAX_PROMPTS:
        raise BadInput(f"{len(given)} prompts are given", f"Send 1 to {MAX_PROMPTS}", param="prompt")
    return given


def text_of(given: wire.PromptObject | wire.InputObject) -> str:
    """The text of an object. Raises Unsupported for media, BadInput for none."""
    if given.multimodal_data:
        raise Unsupported("images are not taken here", "Leave out multimodal_data", param="multimodal_data")
    parts = given.content if isinstance(given, wire.InputObject) else None
    if parts is None:
        if given.prompt_string is None:
            raise BadInput("an object holds no text", "Send prompt_string or content", param="input")
        return given.prompt_string
    for part in parts:
        if part.type != "text" or part.text is None:
            raise BadInput(f"content of type {part.type!r} is not understood", "Send text", param="input.content")
    return "".join(part.text or "" for part in parts)


def illustrated(given: wire.PromptObject, marks: Sequence[str]) -> tuple[str, tuple[Image, ...]]:
    """The text of an object and the images that the marks in it stand for. Raises BadInput and TooLarge."""
    seen = [images.of_base64(data, param="multimodal_data") for data in given.multimodal_data or ()]
    between = re.split("|".join(map(re.escape, marks)), given.prompt_string) if seen else [given.prompt_string]
    if len(between) != len(seen) + 1:
        raise BadInput(
            f"the prompt has {len(between) - 1} marks for {len(seen)} images",
            f"Put {marks[0]} where an image stands; GET /props says it as media_marker",
            param="prompt",
        )
    return joined([between[0], *(each for pair in zip(seen, between[1:], strict=True) for each in pair)])


def _first(*given: int | None) -> int | None:
    return next((each for each in given if each is not None), None)


def _constraint(grammar: str | None, schema: dict[str, Any] | None) -> Constraint | None:
    if grammar and schema is not None:
        raise BadInput("grammar and json_schema exclude each other", "Send one of them", param="grammar")
    if grammar:
        return Constraint("grammar", grammar=grammar)
    return None if schema is None else Constraint("schema", schema)


def _formatted(wanted: wire.ResponseFormat | None) -> Constraint | None:
    if wanted is None or wanted.type == "text":
        return None
    schema = wanted.json_schema.schema if wanted.json_schema else wanted.schema
    if schema is None and wanted.type == "json_schema":
        raise BadInput("response_format has no json_schema", "Send the schema", param="response_format.json_schema")
    return Constraint("schema", schema) if schema else Constraint("json")


def _samplers(given: list[str] | str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, list):
        return tuple(given)
    unknown = [letter for letter in given if letter not in _LETTERS]
    if unknown:
        raise BadInput(f"no sampler is called {unknown[0]!r}", f"Known: {' '.join(_LETTERS)}", param="samplers")
    return tuple(_LETTERS[letter] for letter in given)


def _token_biases(given: dict[str, float | bool] | None) -> dict[int, float]:
    """Chat names tokens alone, as OpenAI's does."""
    biases = {}
    for token, bias in (given or {}).items():
        if not (token.isascii() and token.isdecimal() and len(token) <= 8):
            raise BadInput(f"{token[:40]!r} is no token", "Name tokens by their number", param="logit_bias")
        biases[int(token)] = bias_of(bias)
    return biases


def bias_of(value: float | bool) -> float:
    """A token's bias; false keeps it out."""
    return -100.0 if value is False else float(value)


def _begun(body: wire.TemplateRequest) -> tuple[tuple[Message, ...], str]:
    """The messages before an answer that has begun, and its beginning."""
    messages = tuple(_message(message) for message in body.messages)
    last = messages[-1]
    if body.continue_final_message and body.add_generation_prompt:
        raise BadInput("a turn that goes on is not opened anew", "Leave out add_generation_prompt")
    if last.role != "assistant" or last.tool_calls or body.continue_final_message is False:
        return messages, ""
    if len(messages) > 1 and messages[-2].role == "assistant":
        raise BadInput("two turns of the assistant stand at the end", "Join them", param="messages")
    if body.add_generation_prompt is not None and not body.continue_final_message:
        return messages, ""
    return messages[:-1], last.content


def _message(message: openai.Message) -> Message:
    text, seen = joined(content(message.content), "\n\n")
    if message.content is None and not message.tool_calls and message.role != "assistant":
        raise BadInput("a message has no content", "Send some text", param="messages")
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=text,
        images=seen,
        tool_calls=tuple(
            ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
        ),
        tool_call_id=message.tool_call_id or "",
        name=message.name or "",
        reasoning=message.reasoning_content or "",
    )


def _tool(tool: openai.Tool) -> Tool:
    return Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})


def _tool_choice(choice: str | openai.NamedTool | None, tools: tuple[Tool, ...]) -> str:
    if choice in (None, "auto", "none"):
        return "none" if choice == "none" else "auto"
    name = choice.function.name if isinstance(choice, openai.NamedTool) else None
    if not tools or (name is not None and name not in {tool.name for tool in tools}):
        raise BadInput("tool_choice names no tool that is given", "Send the tool with it", param="tool_choice")
    return name or "required"
