"""Rows that hold a whole conversation: OpenAI's `messages`, ShareGPT's `conversations`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from freehold.core.errors import BadData
from freehold.core.request import Message, ToolCall

KEYS = ("messages", "conversations", "conversation")
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
    "tool": "tool",
}
_REMEDY = 'Each turn is like {"role": "user", "content": "…"}, the first from the user, the last from the assistant'


def key_of(columns: Sequence[str]) -> str | None:
    """The column that holds conversations, if there is one."""
    return next((key for key in KEYS if key in columns), None)


def messages(turns: Any, where: str) -> tuple[Message, ...] | None:
    """The conversation up to the assistant's last turn, or None when the assistant says nothing. Raises BadData."""
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        raise BadData(f"{where} holds no list of turns", _REMEDY)
    parsed = [_turn(turn, f"{where} turn {number}") for number, turn in enumerate(turns, 1)]
    while parsed and parsed[-1].role != "assistant":
        parsed.pop()
    if not any(message.role == "assistant" and (message.content or message.tool_calls) for message in parsed):
        return None
    _check_order(parsed, where)
    return tuple(parsed)


def weighted(turns: Any) -> bool:
    """Whether a turn asks not to be learned from."""
    return isinstance(turns, Sequence) and any(isinstance(turn, dict) and turn.get("weight") == 0 for turn in turns)


def _turn(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise BadData(f"{where} is not an object", _REMEDY)
    spelt = turn.get("role", turn.get("from"))
    role = _ROLES.get(str(spelt).lower())
    if role is None:
        raise BadData(f"{where} has the role {spelt!r}", f"Known roles: {', '.join(_ROLES)}")
    return Message(
        role,
        _content(turn.get("content", turn.get("value")), where),
        tool_calls=tuple(_call(call, where) for call in _list(turn.get("tool_calls"), where)),
        tool_call_id=str(turn.get("tool_call_id") or ""),
        name=str(turn.get("name") or ""),
    )


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


def _list(calls: Any, where: str) -> Sequence[Any]:
    if calls is None or isinstance(calls, Sequence):
        return calls or ()
    raise BadData(f"{where} has tool_calls that are no list", "Use OpenAI's form of tool_calls")


def _call(call: Any, where: str) -> ToolCall:
    try:
        function = call["function"]
        given = function["arguments"]
        arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode()
        return ToolCall(str(call.get("id") or ""), str(function["name"]), arguments)
    except (TypeError, KeyError, AttributeError) as error:
        raise BadData(f"{where} has a tool call without {error}", "Use OpenAI's form of tool_calls") from error


def _check_order(parsed: Sequence[Message], where: str) -> None:
    roles = [message.role for message in parsed if message.role != "system"]
    if roles[0] != "user":
        raise BadData(f"{where} does not begin with the user", _REMEDY)
    if any(message.role == "system" for message in parsed[1:]):
        raise BadData(f"{where} has a system turn in the middle", "Put it first")
