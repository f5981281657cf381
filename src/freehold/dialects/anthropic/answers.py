"""Our events as Anthropic's answers, whole or as the named events of a stream. Pure."""

import hashlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from freehold.core.errors import FreeholdError
from freehold.core.event import Event, Failed, Finished, Reasoning, Started, Text, ToolCallPart, Usage
from freehold.store import Entry

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: FreeholdError) -> dict[str, Any]:
    """An error as Anthropic's clients read it."""
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": error.line()}, "request_id": None}


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date and time."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def model_body(entry: Entry) -> dict[str, Any]:
    """A model of the catalog."""
    return {
        "type": "model",
        "id": str(entry.name),
        "display_name": str(entry.name),
        "created_at": moment(entry.modified),
        "lifecycle": "active",
        "max_input_tokens": entry.manifest.details.context_length or None,
    }


def models_body(entries: list[Entry], more: bool) -> dict[str, Any]:
    """A page of models."""
    data = [model_body(entry) for entry in entries]
    return {
        "data": data,
        "has_more": more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    """Tokens; those read from the cache are not among the input tokens, as Anthropic counts."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
    }


def signature(thought: str) -> str:
    """What stands under a thinking block. Clients send it back unread."""
    return hashlib.sha256(thought.encode()).hexdigest()


class Answer:
    """A message as its blocks grow; `feed` tells a stream's events, `body` the whole."""

    def __init__(self, model: str) -> None:
        self._head: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex[:24]}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        self._blocks: list[dict[str, Any]] = []
        self._open = False
        self._call = -1
        self._arguments = ""
        self._end: dict[str, Any] = {"stop_reason": None, "stop_sequence": None}
        self._usage = usage_body(Usage())

    def feed(self, event: Event) -> Iterator[dict[str, Any]]:
        """The stream's events for one of ours. Raises the error of a Failed."""
        match event:
            case Failed():
                raise event.error
            case Started():
                self._usage = usage_body(Usage(event.prompt_tokens))
                yield {"type": "message_start", "message": self.body()}
            case Text():
                yield from self._grow({"type": "text", "text": ""}, "text_delta", "text", event.text)
            case Reasoning():
                yield from self._grow({"type": "thinking", "thinking": ""}, "thinking_delta", "thinking", event.text)
            case ToolCallPart():
                yield from self._tool(event)
            case Finished():
                yield from self._close()
                yield from self._finish(event)

    def body(self) -> dict[str, Any]:
        """The whole message."""
        return {**self._head, "content": list(self._blocks), **self._end, "usage": self._usage}

    def _grow(self, fresh: dict[str, Any], delta: str, field: str, text: str) -> Iterator[dict[str, Any]]:
        if not self._open or self._blocks[-1]["type"] != fresh["type"]:
            yield from self._close()
            yield self._begin(fresh)
        self._blocks[-1][field] += text
        yield self._delta({"type": delta, field: text})

    def _tool(self, part: ToolCallPart) -> Iterator[dict[str, Any]]:
        if part.call != self._call or not self._open or self._blocks[-1]["type"] != "tool_use":
            yield from self._close()
            self._call, self._arguments = part.call, ""
            yield self._begin({"type": "tool_use", "id": part.id, "name": part.name, "input": {}})
        if part.arguments:
            self._arguments += part.arguments
            yield self._delta({"type": "input_json_delta", "partial_json": part.arguments})

    def _begin(self, block: dict[str, Any]) -> dict[str, Any]:
        self._blocks.append(block)
        self._open = True
        shown = {**block, "signature": ""} if block["type"] == "thinking" else dict(block)
        return {"type": "content_block_start", "index": len(self._blocks) - 1, "content_block": shown}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}

    def _close(self) -> Iterator[dict[str, Any]]:
        if not self._open:
            return
        self._open = False
        block = self._blocks[-1]
        if block["type"] == "thinking":
            block["signature"] = signature(block["thinking"])
            yield self._delta({"type": "signature_delta", "signature": block["signature"]})
        if block["type"] == "tool_use":
            block["input"] = _decoded(self._arguments)
        yield {"type": "content_block_stop", "index": len(self._blocks) - 1}

    def _finish(self, event: Finished) -> Iterator[dict[str, Any]]:
        called = any(block["type"] == "tool_use" for block in self._blocks)
        reasons = {"length": "max_tokens", "tool_calls": "tool_use"}
        reason = "stop_sequence" if event.stop else reasons.get(event.reason, "tool_use" if called else "end_turn")
        self._end = {"stop_reason": reason, "stop_sequence": event.stop or None}
        self._usage = usage_body(event.usage)
        yield {"type": "message_delta", "delta": self._end, "usage": self._usage}
        yield {"type": "message_stop"}


def _decoded(arguments: str) -> dict[str, Any]:
    """The arguments of a call; one that ended early, or is too deep, is told as text, not lost."""
    try:
        found = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": arguments}
    return found if isinstance(found, dict) else {"_raw": arguments}
