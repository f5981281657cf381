"""Items of conversations: as clients send them, as they are kept and listed, and as messages for a model. Pure."""

import itertools
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import MAX_MESSAGES, Image, Message, ToolCall, joined
from freehold.dialects.openai.responses import schema as wire
from freehold.dialects.openai.responses.compaction import LEAD, opened
from freehold.formats import images

Item = dict[str, Any]
"""An item as it is kept: complete, with an id."""
_TEXTS = {"input_text", "output_text", "text", "summary_text", "reasoning_text"}
_ID = re.compile(r"[a-z]{1,8}_([0-9a-f]{40})[0-9a-f]{8}")


class Ids:
    """The ids of one response and of its items, which tell the response that they belong to."""

    def __init__(self) -> None:
        self._key = secrets.token_hex(20)
        self._count = itertools.count(1)
        self.response = f"resp_{self._key}{0:08x}"

    def new(self, prefix: str) -> str:
        """The next item's."""
        return f"{prefix}_{self._key}{next(self._count):08x}"


def response_of(item: str) -> str | None:
    """The id of the response that an item with this id came with; None if no response of ours can have it."""
    found = _ID.fullmatch(item)
    return f"resp_{found[1]}{0:08x}" if found else None


def qualified(namespace: str | None, name: str) -> str:
    """What a model calls a function of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def stored(item: wire.Item, ids: Ids) -> Item:
    """The item in the form that is kept. Raises BadInput and Unsupported."""
    kind = item.type or "message"
    if kind not in _FORMS:
        raise Unsupported(f"items of type {kind[:80]!r} are not understood", "Leave them out", param="input")
    return _FORMS[kind](item, ids)


def said(text: str, ids: Ids) -> Item:
    """A user's message."""
    return stored(wire.Item(role="user", content=text), ids)


def _message(item: wire.Item, ids: Ids) -> Item:
    if item.role is None or item.content is None:
        raise _incomplete("a message needs a role and content")
    parts = [wire.Part("input_text", item.content)] if isinstance(item.content, str) else item.content
    form = _answered if item.role == "assistant" else _asked
    phase = {"phase": item.phase} if item.phase in ("commentary", "final_answer") else {}
    return {
        "id": item.id or ids.new("msg"),
        "type": "message",
        "role": item.role,
        "status": "completed",
        "content": [form(part) for part in parts],
        **phase,
    }


def _asked(part: wire.Part) -> Item:
    if part.type != "input_image":
        return {"type": "input_text", "text": _text(part)}
    if part.image_url is None:
        raise BadInput("images are not taken from files", "Send the image itself as image_url", param="input")
    images.of_url(part.image_url, param="input")
    return {"type": "input_image", "image_url": part.image_url, "detail": part.detail or "auto"}


def _answered(part: wire.Part) -> Item:
    if part.type == "refusal" and part.refusal is not None:
        return {"type": "refusal", "refusal": part.refusal}
    return {"type": "output_text", "text": _text(part), "annotations": [], "logprobs": []}


def _text(part: wire.Part) -> str:
    if part.type not in _TEXTS or part.text is None:
        raise Unsupported(f"content of type {part.type!r} is not understood", "Send text", param="input")
    return part.text


def _call(item: wire.Item, ids: Ids) -> Item:
    if not item.name or not item.call_id:
        raise _incomplete("a function_call needs a name and a call_id")
    return {
        "id": item.id or ids.new("fc"),
        "type": "function_call",
        "call_id": item.call_id,
        "name": item.name,
        "arguments": item.arguments or "{}",
        "status": "completed",
        **({"namespace": item.namespace} if item.namespace else {}),
    }


def _output(item: wire.Item, ids: Ids) -> Item:
    if not item.call_id or item.output is None:
        raise _incomplete("a function_call_output needs a call_id and an output")
    output = item.output if isinstance(item.output, str) else [_asked(part) for part in item.output]
    return {
        "id": item.id or ids.new("fco"),
        "type": "function_call_output",
        "call_id": item.call_id,
        "output": output,
        "status": "completed",
    }


def _reasoning(item: wire.Item, ids: Ids) -> Item:
    content = item.content if isinstance(item.content, list) else []
    kept = {"encrypted_content": item.encrypted_content} if item.encrypted_content else {}
    return {
        "id": item.id or ids.new("rs"),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": _text(part)} for part in item.summary or ()],
        "content": [{"type": "reasoning_text", "text": _text(part)} for part in content],
        **kept,
    }


def _compaction(item: wire.Item, ids: Ids) -> Item:
    if not item.encrypted_content:
        raise _incomplete("a compaction needs its encrypted_content")
    opened(item.encrypted_content)
    return {"id": item.id or ids.new("cmp"), "type": "compaction", "encrypted_content": item.encrypted_content}


_FORMS: Mapping[str, Callable[[wire.Item, Ids], Item]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "reasoning": _reasoning,
    "compaction": _compaction,
}


def messages(instructions: str | None, items: Sequence[Item]) -> tuple[Message, ...]:
    """The conversation as a model reads it. Raises BadInput.

    Instructions and the system's and developer's messages that open the conversation become one: many templates know
    only one.
    """
    reader = _Reader(instructions)
    for item in items:
        reader.read(item)
    found = reader.end()
    if not items or not found:
        raise BadInput("there is no input", "Send some text", param="input")
    if len(found) > MAX_MESSAGES:
        raise BadInput(f"the conversation has {len(found)} messages", f"Send at most {MAX_MESSAGES}", param="input")
    return tuple(found)


class _Reader:
    """Gathers what belongs to one message: what opens the conversation; a turn's thoughts, text and calls."""

    def __init__(self, instructions: str | None) -> None:
        self._found: list[Message] = []
        self._opening = [instructions] if instructions else []
        self._known: set[str] = set()
        self._thoughts: list[str] = []
        """For the turn that comes, or goes on."""
        self._turn: _Turn | None = None

    def read(self, item: Item) -> None:
        """Take one item. Raises BadInput for an answer to no call."""
        kind = item["type"]
        if kind == "reasoning":
            self._thoughts.append(_joined(item["content"]))
        elif kind == "function_call":
            self._call(item)
        elif kind == "function_call_output":
            self._output(item)
        elif kind == "compaction":
            self._summary(opened(item["encrypted_content"]))
        elif item["role"] == "assistant":
            self._close()
            self._turn = _Turn(_joined(item["content"]), [], self._taken())
        elif item["role"] == "user":
            text, seen = joined(_content(item["content"]))
            self._add(Message("user", text, images=seen))
        elif self._found or self._turn:
            self._add(Message("system", _joined(item["content"])))
        else:
            self._opening.append(_joined(item["content"]))

    def _summary(self, text: str) -> None:
        """What the user said before it becomes one turn: many templates want turns that alternate."""
        self._close()
        self._taken()
        said: list[str] = []
        while self._found and self._found[-1].role == "user":
            said.insert(0, self._found.pop().content)
        if said:
            self._found.append(Message("user", "\n\n".join(said)))
        if text and self._found:
            self._found.append(Message("assistant", LEAD + text))
        elif text:
            self._opening.append(LEAD + text)

    def end(self) -> list[Message]:
        """All that was said."""
        self._close()
        opening = [Message("system", "\n\n".join(self._opening))] if self._opening else []
        return [*opening, *self._found]

    def _add(self, message: Message) -> None:
        self._close()
        self._taken()
        self._found.append(message)

    def _taken(self) -> list[str]:
        taken, self._thoughts = self._thoughts, []
        return taken

    def _close(self) -> None:
        if self._turn is not None:
            text, calls, thoughts = self._turn
            self._found.append(Message("assistant", text, tuple(calls), reasoning="".join(thoughts)))
            self._turn = None

    def _call(self, item: Item) -> None:
        self._turn = self._turn or _Turn("", [], [])
        self._turn.thoughts.extend(self._taken())
        self._known.add(item["call_id"])
        name = qualified(item.get("namespace"), item["name"])
        self._turn.calls.append(ToolCall(item["call_id"], name, item["arguments"]))

    def _output(self, item: Item) -> None:
        if item["call_id"] not in self._known:
            raise BadInput(
                f"no tool call found for function call output with call_id {item['call_id'][:120]}",
                "Send the function_call before it, or the previous_response_id",
                param="input",
            )
        text, seen = joined(_content(item["output"]))
        self._add(Message("tool", text, tool_call_id=item["call_id"], images=seen))


class _Turn(NamedTuple):
    """A turn of the assistant as it is gathered."""

    text: str
    calls: list[ToolCall]
    thoughts: list[str]


def _content(content: str | Sequence[Item]) -> Iterator[str | Image]:
    """Texts and images in their order."""
    for part in [{"text": content}] if isinstance(content, str) else content:
        if part.get("type") == "input_image":
            image = images.of_url(part["image_url"], param="input")
            yield msgspec.structs.replace(image, coarse=part["detail"] == "low")
        else:
            yield part.get("text") or part.get("refusal") or ""


def _joined(content: str | Sequence[Item]) -> str:
    """The text of one who shows no images. Raises Unsupported."""
    text, seen = joined(_content(content))
    if seen:
        raise Unsupported("images are understood in messages of the user alone", "Send them there", param="input")
    return text


def _incomplete(what: str) -> BadInput:
    return BadInput(what, "See the API reference", param="input")
