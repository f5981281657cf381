"""Requests of the Responses API as ours. Pure. What cannot be done is refused by name."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import Constraint, Message, Request, Tool
from freehold.dialects.openai.responses import compaction
from freehold.dialects.openai.responses import schema as wire
from freehold.dialects.openai.responses.items import Item, messages, qualified
from freehold.dialects.openai.sampling import sampling, stops

LOGPROBS = "message.output_text.logprobs"
_INCLUDED = {LOGPROBS, "reasoning.encrypted_content", "message.input_image.image_url"}
_HOSTED = ("web_search_call.", "code_interpreter_call.", "computer_call_output.", "file_search_call.")
_NEVER = ("background_options", "prompt", "context_management", "moderation", "access_programs")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Origin(NamedTuple):
    """What the client calls a function."""

    namespace: str
    name: str


class Toolbox(NamedTuple):
    """The functions that a model may call, and what the client calls them."""

    tools: tuple[Tool, ...]
    origins: Mapping[str, Origin]
    """By the name that the model knows."""


def refuse(body: wire.ResponseRequest | wire.TokensRequest) -> None:
    """Raises Unsupported for what a local model cannot have, and BadInput."""
    for name in _NEVER:
        if getattr(body, name, None):
            raise _unsupported(name, f"{name} is not known here")
    if isinstance(body, wire.TokensRequest):
        if body.personality:
            raise _unsupported("personality", "models here have no personalities to choose from")
        return
    for wanted in body.include or ():
        if wanted not in _INCLUDED and not wanted.startswith(_HOSTED):
            raise BadInput(f"{wanted!r} cannot be included", f"Known: {', '.join(sorted(_INCLUDED))}", param="include")
    if body.text and body.text.verbosity not in (None, "medium"):
        raise _unsupported("text.verbosity", "verbosity cannot be set")
    reasoning = body.reasoning or wire.ReasoningWish()
    if reasoning.context not in (None, "auto", "current_turn"):
        raise _unsupported("reasoning.context", "thoughts of earlier turns are left to the model's template")
    if reasoning.mode not in (None, "standard"):
        raise _unsupported("reasoning.mode", "there is one way to think")


def toolbox(body: wire.ResponseRequest | wire.TokensRequest) -> Toolbox:
    """The functions among the tools. Raises BadInput and Unsupported."""
    tools, origins = [], {}
    for namespace, tool in _functions(body.tools or (), ""):
        name = qualified(namespace, tool.name or "")
        if not _NAME.fullmatch(name):
            raise BadInput(f"no function can be named {name[:120]!r}", "Use letters, digits, _ and -", param="tools")
        if name in origins:
            raise BadInput(f"two tools are named {name!r}", "Rename one", param="tools")
        tools.append(Tool(name, tool.description or "", tool.parameters or {}))
        origins[name] = Origin(namespace, tool.name or "")
    return Toolbox(tuple(tools), origins)


def _functions(tools: Sequence[wire.Tool], namespace: str) -> Iterator[tuple[str, wire.Tool]]:
    for tool in tools:
        if tool.type == "namespace" and tool.name and not namespace:
            yield from _functions(tool.tools or (), tool.name)
        elif tool.type == "function":
            yield namespace, tool
        else:
            raise _unsupported("tools", f"there are no tools of type {tool.type[:80]!r} here, only functions")


def conversation(body: wire.ResponseRequest | wire.TokensRequest, items: Sequence[Item], box: Toolbox) -> Request:
    """What the model reads. Raises BadInput and Unsupported."""
    effort = body.reasoning.effort if body.reasoning else None
    choice, tools = _choice(body.tool_choice, box.tools)
    return Request(
        model=body.model,
        messages=messages(body.instructions, items),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        constraint=_constraint(body.text.format if body.text else None),
        think=None if effort is None else effort != "none",
        effort="" if effort in (None, "none") else effort,
        truncate=body.truncation == "auto",
    )


def summary(body: wire.CompactRequest, items: Sequence[Item], context: int) -> Request:
    """What has a model say a conversation in short. Raises BadInput.

    One that does not fit the context loses its oldest turns: else nothing could be made of it any more.
    """
    *before, last = messages(body.instructions, items)
    if last.role == "user":  # turns alternate
        asked = [msgspec.structs.replace(last, content=f"{last.content}\n\n{compaction.ASK}")]
    else:
        asked = [last, Message("user", compaction.ASK)]
    return Request(
        model=body.model,
        messages=(*before, *asked),
        max_tokens=compaction.longest(context),
        think=False,
        truncate=True,
    )


def request(body: wire.ResponseRequest, items: Sequence[Item], box: Toolbox) -> Request:
    """The same, and how the answer is drawn."""
    return msgspec.structs.replace(
        conversation(body, items, box),
        sampling=sampling(body),
        max_tokens=body.max_output_tokens,
        stop=stops(body.stop),
        logprobs=body.top_logprobs or 0 if LOGPROBS in (body.include or ()) or body.top_logprobs else None,
    )


def _choice(choice: Any, tools: tuple[Tool, ...]) -> tuple[str, tuple[Tool, ...]]:
    """The choice in our words, and the tools that are left to choose from."""
    if choice is None or choice == "auto" or choice == "none":
        return choice or "auto", tools
    if not tools:
        raise BadInput("tool_choice needs tools", "Send the tools with it", param="tool_choice")
    if isinstance(choice, str):
        return choice, tools
    if choice.type == "allowed_tools":
        wanted = [each.name for each in choice.tools or ()]
        _known(wanted, tools)
        return choice.mode, tuple(tool for tool in tools if tool.name in wanted)
    if choice.type != "function":
        raise _unsupported("tool_choice", f"there are no tools of type {choice.type[:80]!r} here, only functions")
    _known([choice.name], tools)
    return choice.name or "", tools


def _known(wanted: Sequence[str | None], tools: tuple[Tool, ...]) -> None:
    names = {tool.name for tool in tools}
    for name in wanted or [None]:
        if name not in names:
            raise BadInput(f"there is no tool {name!r} to call", "Name one of the tools given", param="tool_choice")


def _constraint(form: wire.Format | None) -> Constraint | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return Constraint("json")
    if form.schema is None or form.name is None:
        raise BadInput("text.format has no name or schema", "Send both", param="text.format")
    return Constraint("schema", form.schema) if form.schema else Constraint("json")


def _unsupported(param: str, message: str) -> Unsupported:
    return Unsupported(message, f"Leave out {param}", param=param)
