"""Tool calls: to tools that the row offers, with arguments that are JSON, and with results that answer them."""

from collections.abc import Iterator

import msgspec

from freehold.core.request import Message, Tool, ToolCall
from freehold.data.checks import Check, Found, Material
from freehold.data.findings import Log
from freehold.data.rows import Conversation, Preference


def run(material: Material) -> Found:
    """Calls that cannot be right, and how many calls and tools there are."""
    log = Log(material.unit)
    calls = tools = 0
    for row in material.rows:
        if isinstance(row, Conversation):
            tools += len(row.tools)
            calls += sum(len(message.tool_calls) for message in _messages(row))
            for check, text, reason in _wrong(row):
                log.add(check, "kept", text, row.line, reason)
    facts = {"tools": tools, "tools.calls": calls} if tools or calls else {}
    return Found(tuple(log.findings()), dict(facts))


def _messages(row: Conversation) -> tuple[Message, ...]:
    return (*row.messages, *row.chosen, *row.rejected) if isinstance(row, Preference) else row.messages


def _wrong(row: Conversation) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a row's calls: each thing once, with the first reason for it."""
    offered = {tool.name: tool for tool in row.tools}
    made: set[str] = set()
    said: set[str] = set()
    asked = ""
    for message in _messages(row):
        for check, text, reason in _of_message(message, offered, made, asked):
            if check not in said:
                said.add(check)
                yield check, text, reason
        made.update(call.id for call in message.tool_calls)
        asked = asked if message.role == "tool" else message.role


def _of_message(
    message: Message, offered: dict[str, Tool], made: set[str], asked: str
) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a turn; `asked` is whose turn came before it and before other results."""
    unasked = message.tool_call_id not in made if message.tool_call_id else asked != "assistant"
    if message.role == "tool" and unasked:
        reason = message.tool_call_id[:80] or f"after the turn of {f'the {asked}' if asked else 'nobody'}"
        yield "tools.result", "row{s} {have} a result that no call asked for", reason
    for call in message.tool_calls:
        if call.name not in offered:
            yield "tools.unknown", "row{s} call{v} a tool that the row does not offer", call.name[:80]
        elif missing := _missing(call, offered[call.name]):
            yield "tools.required", "row{s} leave{v} out an argument that the tool requires", missing
        if _arguments(call) is None:
            yield "tools.arguments", "row{s} {have} a call whose arguments are no JSON object", call.name[:80]


def _arguments(call: ToolCall) -> dict[str, object] | None:
    try:
        value = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _missing(call: ToolCall, tool: Tool) -> str:
    """A required argument that the call lacks."""
    given, required = _arguments(call), tool.parameters.get("required")
    if given is None or not isinstance(required, list):
        return ""
    return next((f"{call.name}: {name}"[:80] for name in map(str, required) if name not in given), "")


CHECK = Check(70, run)
