"""Turns and tools as the vendors write them: OpenAI, Together, ShareGPT, LLaMA-Factory, Anthropic's tool schemas.

Errors are BadData whose message goes on after the place of the row, as in `turn 2 is not an object`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import msgspec

from freehold.core.errors import BadData
from freehold.core.request import MAX_MESSAGES, MAX_TEXT, Message, Tool, ToolCall

KEYS = ("messages", "conversations", "conversation")
TOOLS = ("tools", "functions")
_Role = Literal["system", "user", "assistant", "tool"]
_ROLES: dict[str, _Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_REMEDY = 'Each turn is like {"role": "user", "content": "…"}, the first from the user, the last from the assistant'
_CALLS = "Use OpenAI's form of tool_calls"


class Turns(NamedTuple):
    """Messages, and how much each counts; no weights where each counts 1."""

    messages: tuple[Message, ...]
    weights: tuple[float, ...] = ()


def is_list(value: Any) -> bool:
    """Whether a value is a list of objects, as turns are, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def turns(value: Any, what: str = "") -> Turns:
    """The turns in a list. `what` names the list in errors, where a row has several. Raises BadData."""
    if not is_list(value):
        raise BadData(f"{what or 'turns'} holds no list of turns" if what else "holds no list of turns", _REMEDY)
    if len(value) > MAX_MESSAGES:
        raise BadData("is too long", f"At most {MAX_MESSAGES} turns of {MAX_TEXT:,} characters")
    before = f"{what} " if what else ""
    parsed = [_turn(turn, f"{before}turn {number}") for number, turn in enumerate(value, 1)]
    weights = tuple(weight for _, weight in parsed)
    return Turns(tuple(message for message, _ in parsed), weights if set(weights) - {1.0} else ())


def check_order(messages: Sequence[Message]) -> None:
    """Raises BadData unless the user begins, after at most one system message."""
    roles = [message.role for message in messages if message.role != "system"]
    if not roles or roles[0] != "user":
        raise BadData("does not begin with the user", _REMEDY)
    if any(message.role == "system" for message in messages[1:]):
        raise BadData("has a system turn in the middle", "Put it first")


def says(message: Message) -> bool:
    """Whether the assistant says or calls something there."""
    return message.role == "assistant" and bool(message.content.strip() or message.tool_calls)


def silent(message: Message) -> bool:
    """Whether it is a turn in which the assistant says, calls and thinks nothing."""
    return message.role == "assistant" and not says(message) and not message.reasoning.strip()


def spoken(found: Turns) -> Turns:
    """The turns, those of the assistant that are silent without weight: that an answer ends at once is not learned."""
    given = found.weights or (1.0,) * len(found.messages)
    weights = tuple(0.0 if silent(each) else weight for each, weight in zip(found.messages, given, strict=True))
    return found if weights == given else Turns(found.messages, weights)


def checked(text: str) -> str:
    """A text of a length that can be used. Raises BadData."""
    if len(text) > MAX_TEXT:
        raise BadData("is too long", f"At most {MAX_MESSAGES} turns of {MAX_TEXT:,} characters")
    return text


def tools(value: Any) -> tuple[Tool, ...]:
    """Tool definitions: OpenAI's, flat ones, Anthropic's, or JSON text of those. Raises BadData."""
    if isinstance(value, str) and value.strip():
        value = _json(value, "has tools that are not JSON")
    if value is None or value == "":
        return ()
    if not is_list(value):
        raise BadData("has tools that are no list", 'Give them as [{"type": "function", "function": {…}}]')
    return tuple(_tool(each, f"tool {number}") for number, each in enumerate(value, 1))


def _tool(value: Any, where: str) -> Tool:
    spelt = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(spelt, Mapping):
        raise BadData(f"{where} is no function", 'A tool is {"type": "function", "function": {"name": …}}')
    fields = {
        "name": spelt.get("name"),
        "description": spelt.get("description") or "",
        "parameters": spelt.get("parameters") or spelt.get("input_schema") or {},
    }
    try:
        return msgspec.convert(fields, Tool)
    except msgspec.ValidationError as error:
        raise BadData(f"{where} cannot be used: {error}", "Correct its name and its JSON schema") from error


def _turn(turn: Any, where: str) -> tuple[Message, float]:
    if not isinstance(turn, Mapping):
        raise BadData(f"{where} is not an object", _REMEDY)
    spelt = _either(turn, "role", "from")
    role = _ROLES.get(str(spelt).lower())
    if role is None:
        raise BadData(f"{where} has the role {spelt!r}", f"Known roles: {', '.join(_ROLES)}")
    content, calls = _content(_either(turn, "content", "value"), where), _calls(turn, where)
    if str(spelt).lower() == "function_call":
        content, calls = "", _written(content, where)
    thoughts = next((turn[key] for key in ("reasoning", "reasoning_content", "thinking") if turn.get(key)), "")
    message = Message(
        role,
        checked(content),
        tool_calls=calls,
        tool_call_id=str(turn.get("tool_call_id") or ""),
        name=str(turn.get("name") or ""),
        reasoning=checked(_content(thoughts, where)),
    )
    return message, _weight(turn.get("weight"), where)


def _either(turn: Mapping[str, Any], one: str, other: str) -> Any:
    """What a turn holds under either name: Parquet has every name that some turn has, with null in the others."""
    value = turn.get(one)
    return turn.get(other) if value is None else value


def _weight(value: Any, where: str) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadData(f"{where} has the weight {value!r}", "A weight is 0, 1 or between them")
    return float(value)


def _content(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    if isinstance(value, Sequence):
        return "".join(_part(part, where) for part in value)
    raise BadData(f"{where} has content that is not text", _REMEDY)


def _part(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return cast("str", part["text"])
    raise BadData(f"{where} has content that is not text", "Only text can be learned from")


def _calls(turn: Mapping[str, Any], where: str) -> tuple[ToolCall, ...]:
    given = turn.get("tool_calls")
    if given is not None and not isinstance(given, Sequence):
        raise BadData(f"{where} has tool_calls that are no list", _CALLS)
    calls = tuple(_call(call, where) for call in given or ())
    older = turn.get("function_call")
    return (*calls, _call({"function": older}, where)) if older else calls


def _call(call: Any, where: str) -> ToolCall:
    """A call in OpenAI's form, or flat as in the canonical file."""
    try:
        function = call.get("function", call)
        given = function["arguments"]
        arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode()
        return ToolCall(str(call.get("id") or ""), str(function["name"]), arguments)
    except (TypeError, KeyError, AttributeError) as error:
        raise BadData(f"{where} has a tool call without {error}", _CALLS) from error


def _written(content: str, where: str) -> tuple[ToolCall, ...]:
    """The calls that a turn spells out as JSON text."""
    value = _json(content, f"{where} is no tool call in JSON")
    return tuple(_call(call, where) for call in (value if is_list(value) else [value]))


def _json(text: str, reason: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadData(f"{reason}: {error}", _CALLS) from error
