"""Which of the server's routes answers a request, with what body, and how its text is to be read."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from freehold.core.errors import BadInput, Unsupported
from freehold.core.event import Event, ToolCallPart
from freehold.core.request import Constraint, Insert, Request, Tool
from freehold.engines.llamacpp import native, tools, wire

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"


class Server(Protocol):
    """What planning asks of the worker."""

    mark: str
    """What stands in a prompt for an image."""

    async def render(self, request: Request) -> str:
        """The prompt that the model's template makes of a request's messages and tools."""
        ...

    async def check(self, constraint: Constraint) -> None:
        """Raises BadInput for a constraint that does not compile."""
        ...

    async def inserted(self, insert: Insert, prompt: str | Sequence[int]) -> list[int]:
        """The tokens that show a model the place where text is to be written. Raises Unsupported."""
        ...


class Filter(Protocol):
    """Reads the events of one choice anew."""

    def feed(self, event: Event) -> Iterable[Event]:
        """The events that stand for `event`."""
        ...


class FirstCall:
    """Drops the calls after the first of an answer that may hold only one."""

    def feed(self, event: Event) -> Iterable[Event]:
        """The event, unless it is part of a later call."""
        return () if isinstance(event, ToolCallPart) and event.call > 0 else (event,)


class AsIs:
    """Leaves events as they are."""

    def feed(self, event: Event) -> Iterable[Event]:
        """The event alone."""
        return (event,)


class Plan(NamedTuple):
    """A route, its body, and a filter for each choice."""

    route: str
    body: dict[str, Any]
    new_filter: Callable[[], Filter]


async def plan(request: Request, choices: range, knows_tools: bool, server: Server) -> Plan:
    """How to ask for these choices of a request.

    The chat route is used where its parsers help: free text, and tools that the template knows. What is constrained
    goes as raw text, because those parsers fail on an answer that ends within a constrained value.
    """
    offered = offered_tools(request)
    if request.prompt is not None:
        prompt = request.prompt
        if isinstance(prompt, str):
            prompt = wire.marked(prompt, request.images, server.mark)
        return await _raw(server, request, choices, prompt, request.constraint)
    asked = _as_known(request, knows_tools, offered)
    if request.prefill:
        if offered:
            raise BadInput("an answer that is begun cannot call tools", "Leave out the tools or the last message")
        begun = await server.render(asked) + request.prefill
        return await _raw(server, request, choices, begun, request.constraint)
    if offered and request.tool_choice != "auto":
        return await _forced(request, choices, knows_tools, server)
    if offered and not knows_tools:
        if request.constraint is not None:
            raise Unsupported(
                "this model's template knows no tools, so they cannot be combined with a response format",
                "Leave out the tools or the response format",
                param="response_format",
            )
        prompt = await server.render(asked)
        return await _raw(server, request, choices, prompt, None, lambda: tools.Detected(offered, _call_id()))
    if request.constraint is not None and not offered:
        return await _raw(server, request, choices, await server.render(asked), request.constraint)
    body = wire.chat_body(asked, choices)
    if request.constraint is not None:
        body |= wire.constraint_body(request.constraint)
    return Plan(CHAT, body, AsIs if request.parallel_tool_calls else FirstCall)


def offered_tools(request: Request) -> tuple[Tool, ...]:
    """The tools that the model may call."""
    return request.tools if request.tool_choice != "none" else ()


async def prompt_of(request: Request, knows_tools: bool, server: Server) -> str:
    """The prompt that the model reads, whatever route it is sent by; with marks for its images."""
    if isinstance(request.prompt, str):
        return wire.marked(request.prompt, request.images, server.mark)
    return await server.render(known(request, knows_tools)) + request.prefill


def known(request: Request, knows_tools: bool) -> Request:
    """The request in terms that the model's template knows."""
    return _as_known(request, knows_tools, offered_tools(request))


def _as_known(request: Request, knows_tools: bool, offered: Sequence[Tool]) -> Request:
    """The request in terms that the model's template knows: without tools for one that knows of none."""
    if knows_tools:
        return msgspec.structs.replace(request, tools=tuple(offered))
    return msgspec.structs.replace(request, messages=tools.folded(request.messages, offered), tools=())


async def _forced(request: Request, choices: range, knows_tools: bool, server: Server) -> Plan:
    offered = _chosen(request)
    prompt = await server.render(_as_known(request, knows_tools, offered))
    constraint = _held(offered)
    if len(offered) == 1:
        tool = offered[0]
        return await _raw(
            server, request, choices, prompt + tools.opening(tool), constraint, lambda: tools.Forced(tool, _call_id())
        )
    return await _raw(server, request, choices, prompt, constraint, lambda: tools.Detected(offered, _call_id()))


def forced(request: Request) -> Constraint | None:
    """What a call that must be made is held to; None where none must be made. Raises BadInput for an unknown tool."""
    return _held(_chosen(request)) if offered_tools(request) and request.tool_choice != "auto" else None


def _held(offered: Sequence[Tool]) -> Constraint:
    return Constraint("schema", tools.closed(offered[0]) if len(offered) == 1 else tools.any_call(offered))


def _chosen(request: Request) -> tuple[Tool, ...]:
    if request.tool_choice == "required":
        return request.tools
    named = tuple(tool for tool in request.tools if tool.name == request.tool_choice)
    if not named:
        raise BadInput(
            f"there is no tool {request.tool_choice!r} to call", "Name one of the tools given", param="tool_choice"
        )
    return named[:1]


async def _raw(
    server: Server,
    request: Request,
    choices: range,
    prompt: str | Sequence[int],
    constraint: Constraint | None,
    new_filter: Callable[[], Filter] = AsIs,
) -> Plan:
    if constraint is not None:
        await server.check(constraint)
    if request.insert is not None and not request.detail:
        prompt = await server.inserted(request.insert, prompt)
    elif request.insert is not None:
        if not isinstance(prompt, str):
            raise BadInput("text is inserted after a text, not after token ids", "Send the prompt as text")
        # llama-server's own route cuts both texts to a batch, which whoever asks for it expects.
        body = native.infill_body(request, choices, request.insert, prompt, constraint)
        return Plan(native.INFILL, body, new_filter)
    asked: str | Sequence[int] | dict[str, Any] = prompt
    if request.seen and isinstance(prompt, str):
        asked = wire.illustrated(prompt, request.seen)
    # With a projector the server takes nothing but text by the other route.
    if (request.detail and request.prompt is not None) or (server.mark and not isinstance(asked, str)):
        return Plan(native.COMPLETION, native.completion_body(request, choices, asked, constraint), new_filter)
    return Plan(COMPLETION, wire.completion_body(request, choices, prompt, constraint), new_filter)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
