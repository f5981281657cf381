"""Tool calls for templates that know nothing of tools, and calls that must be made. Pure: text in, text and events out.

A call is written as `{"name": …, "arguments": {…}}`, which most tool-trained models write of themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from freehold.core.event import Event, Finished, Text, ToolCallPart
from freehold.core.request import Message, Tool, moved

_ASK = (
    "You can call these functions:\n{tools}\n"
    'To call one, answer with nothing but {{"name": "function name", "arguments": {{…}}}}. Otherwise answer in words.'
)
_RETURNED = "The function returned: "

_OPENING = {"$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "unevaluatedProperties", "propertyNames"}
"""Keywords beside which a closed object could forbid what they describe."""


def described(tools: Sequence[Tool]) -> str:
    """The tools as a system message says them."""
    lines = (msgspec.json.encode(msgspec.structs.asdict(tool)).decode() for tool in tools)
    return _ASK.format(tools="\n".join(lines))


def folded(messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[Message, ...]:
    """The conversation in words that any chat template knows: tools in the system message, results as user turns."""
    plain = [_in_words(message) for message in messages]
    if not tools:
        return tuple(plain)
    if plain and plain[0].role == "system":
        first = plain.pop(0)
        told = msgspec.structs.replace(first, content=f"{first.content}\n\n{described(tools)}")
        return (told, *plain)
    return (Message("system", described(tools)), *plain)


def _in_words(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", _RETURNED + message.content, images=moved(message.images, len(_RETURNED)))
    if message.tool_calls:
        calls = "\n".join(
            f'{{"name": "{call.name}", "arguments": {call.arguments or "{}"}}}' for call in message.tool_calls
        )
        return Message("assistant", f"{message.content}\n{calls}".strip(), images=message.images)
    return message


def opening(tool: Tool) -> str:
    """How the answer begins when this tool must be called; what follows is its arguments."""
    return f'{{"name": "{tool.name}", "arguments": '


def closed(tool: Tool) -> dict[str, Any]:
    """The schema of the arguments of a call that must be made: none but those described, unless it says otherwise.

    An open object lets a weak model invent arguments until its context is full.
    """
    schema = tool.parameters or {"type": "object", "properties": {}}
    closable = "properties" in schema and _OPENING.isdisjoint(schema)
    return {"additionalProperties": False, **schema} if closable else schema


def any_call(tools: Sequence[Tool]) -> dict[str, Any]:
    """A JSON schema that any call of one of the tools matches."""
    return {
        "$defs": {f"t{i}": _moved(closed(tool), f"#/$defs/t{i}") for i, tool in enumerate(tools)},
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/t{i}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for i, tool in enumerate(tools)
        ],
    }


def _moved(schema: Any, root: str) -> Any:
    """The schema with its own references pointing below `root`."""
    if isinstance(schema, Mapping):
        return {
            key: root + value.removeprefix("#")
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, root)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    return schema


class _Call(msgspec.Struct):
    name: str
    arguments: msgspec.Raw
    """As the model wrote them: numbers that no float holds too."""


def parse_call(text: str, tools: Sequence[Tool]) -> tuple[str, str] | None:
    """Name and arguments (JSON text) if `text` is a call of one of the tools."""
    try:
        call = msgspec.json.decode(text.strip(), type=_Call)
    except (msgspec.DecodeError, RecursionError):
        return None
    arguments = bytes(call.arguments).decode("utf-8", "replace").strip()
    if call.name not in {tool.name for tool in tools} or not arguments.startswith("{"):
        return None
    return call.name, arguments


class Forced:
    """Turns the text of one choice into the arguments of a call whose name is settled."""

    def __init__(self, tool: Tool, call_id: str) -> None:
        self._head: ToolCallPart | None = ToolCallPart(0, id=call_id, name=tool.name)

    def feed(self, event: Event) -> Iterator[Event]:
        """The events that stand for `event`."""
        if isinstance(event, Text):
            if self._head is not None:
                yield msgspec.structs.replace(self._head, index=event.index)
                self._head = None
            yield ToolCallPart(0, arguments=event.text, index=event.index)
        elif isinstance(event, Finished) and event.reason == "stop":
            yield msgspec.structs.replace(event, reason="tool_calls")
        else:
            yield event


class Detected:
    """Turns the text of one choice into a call if it is one. Text that cannot become a call passes at once."""

    def __init__(self, tools: Sequence[Tool], call_id: str) -> None:
        self._tools = tools
        self._id = call_id
        self._held = ""
        self._plain = False

    def feed(self, event: Event) -> Iterator[Event]:
        """The events that stand for `event`."""
        if isinstance(event, Text) and not self._plain:
            self._held += event.text
            start = self._held.lstrip()[:1]
            if start and start != "{":
                self._plain = True
                yield Text(self._held, event.index)
        elif isinstance(event, Finished) and not self._plain:
            yield from self._settle(event)
        else:
            yield event

    def _settle(self, finished: Finished) -> Iterator[Event]:
        call = parse_call(self._held, self._tools)
        if call is None:
            if self._held:
                yield Text(self._held, finished.index)
            yield finished
            return
        yield ToolCallPart(0, id=self._id, name=call[0], arguments=call[1], index=finished.index)
        yield msgspec.structs.replace(finished, reason="tool_calls")
