"""Our events as a response: its items as they grow, and the named events of its stream. Pure."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from freehold.core.errors import Busy, FreeholdError
from freehold.core.event import Event, Failed, Finished, Logprobs, Reasoning, Text, TokenLogprob, ToolCallPart, Usage
from freehold.dialects.openai.answers import token_body
from freehold.dialects.openai.responses import schema as wire
from freehold.dialects.openai.responses.items import Ids, Item
from freehold.dialects.openai.responses.translate import Origin

Told = dict[str, Any]
"""An event of the stream."""


class Answer:
    """One response. Fed with our events it tells its own, numbered; `body` is the response as far as it has come."""

    def __init__(
        self, body: wire.ResponseRequest, ids: Ids, origins: Mapping[str, Origin], conversation: str = ""
    ) -> None:
        self.body = _head(body, ids.response) | ({"conversation": {"id": conversation}} if conversation else {})
        self._ids = ids
        self._origins = origins
        self._number = 0
        self._open: _Growing | None = None
        self._tokens: list[TokenLogprob] = []
        self._thoughts = 0
        """Pieces of reasoning: llama.cpp sends one for each token, or for those that make up one character."""

    def begin(self) -> Iterator[Told]:
        """What is told before anything is known."""
        yield self._told("response.created", response=dict(self.body))
        yield from self.start()

    def queue(self) -> Iterator[Told]:
        """The same for one that nobody waits for."""
        self.body |= {"status": "queued", "background": True}
        yield self._told("response.created", response=dict(self.body))
        yield self._told("response.queued", response=dict(self.body))

    def start(self) -> Iterator[Told]:
        """What is told when it is begun with."""
        self.body["status"] = "in_progress"
        yield self._told("response.in_progress", response=dict(self.body))

    def cancel(self) -> None:
        """Leave it at what was told, unless that is all. Nothing tells of it."""
        if self.body["status"] in ("queued", "in_progress"):
            for _ in self._close("incomplete"):
                pass
            self.body["status"] = "cancelled"

    def feed(self, event: Event) -> Iterator[Told]:
        """What one event tells."""
        match event:
            case Logprobs():
                self._tokens += event.tokens
            case Text():
                yield from self._turn_to(_Message)
                yield from self._grow(event.text)
            case Reasoning():
                self._thoughts += 1
                yield from self._turn_to(_Thoughts)
                yield from self._grow(event.text)
            case ToolCallPart():
                yield from self._call(event)
            case Finished():
                yield from self._finish(event)
            case Failed():
                yield from self._close("incomplete")
                self.body |= {"status": "failed", "error": _failure(event.error)}

    def last(self) -> Iterator[Told]:
        """What ends the stream."""
        yield self._told(f"response.{self.body['status']}", response=dict(self.body))

    def _told(self, kind: str, **more: Any) -> Told:
        told = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return told

    def _turn_to(self, kind: "type[_Message | _Thoughts]") -> Iterator[Told]:
        """Have an item of this kind open."""
        if not isinstance(self._open, kind):
            yield from self._close("completed")
            yield from self._add(kind(self._ids))

    def _call(self, part: ToolCallPart) -> Iterator[Told]:
        if not isinstance(self._open, _Call) or self._open.number != part.call:
            yield from self._close("completed")
            origin = self._origins.get(part.name) or Origin("", part.name)
            yield from self._add(_Call(self._ids, part, origin))
        if part.arguments:
            yield from self._grow(part.arguments)

    def _add(self, item: "_Growing") -> Iterator[Told]:
        self._open = item
        yield self._told("response.output_item.added", output_index=self._place, item=item.whole("in_progress"))
        if item.part is not None:
            yield self._of_item("response.content_part.added", item, part=item.part)

    def _grow(self, text: str) -> Iterator[Told]:
        item, tokens = self._open, self._tokens
        self._tokens = []
        if item is not None:
            yield self._of_item(f"response.{item.grows}.delta", item, delta=text, **item.grow(text, tokens))

    def _close(self, status: str, tokens: Sequence[TokenLogprob] = ()) -> Iterator[Told]:
        item, self._open = self._open, None
        if item is None:
            return
        yield self._of_item(f"response.{item.grows}.done", item, **item.done(tokens))
        if item.part is not None:
            yield self._of_item("response.content_part.done", item, part=item.part)
        whole = item.whole(status)
        yield self._told("response.output_item.done", output_index=self._place, item=whole)
        self.body["output"] = [*self.body["output"], whole]

    @property
    def _place(self) -> int:
        return len(self.body["output"])

    def _of_item(self, kind: str, item: "_Growing", **more: Any) -> Told:
        part = {} if item.part is None else {"content_index": 0}
        return self._told(kind, item_id=item.id, output_index=self._place, **part, **more)

    def _finish(self, event: Finished) -> Iterator[Told]:
        if self._open is None and not self.body["output"]:
            yield from self._add(_Message(self._ids))  # clients look for a text
        cut = event.reason == "length"
        yield from self._close("incomplete" if cut else "completed", self._tokens)
        usage = usage_body(event.usage, min(self._thoughts, event.usage.completion_tokens))
        if cut:
            reason = {"reason": "max_output_tokens"}
            self.body |= {"status": "incomplete", "incomplete_details": reason, "usage": usage}
        else:
            self.body |= {"status": "completed", "completed_at": int(time.time()), "usage": usage}


class _Growing(ABC):
    """An item that is being told."""

    kind = ""
    prefix = ""
    grows = ""
    """What its deltas are called."""

    def __init__(self, ids: Ids) -> None:
        self.id = ids.new(self.prefix)
        self.text = ""

    @property
    def part(self) -> Item | None:
        """The part of its content that grows; None if it has none."""
        return None

    def grow(self, text: str, tokens: Sequence[TokenLogprob]) -> Told:
        """Take a piece; what its delta tells beside the piece."""
        self.text += text
        return {}

    @abstractmethod
    def done(self, tokens: Sequence[TokenLogprob]) -> Told:
        """What the end of its growth tells. The tokens are those that no piece came for."""

    @abstractmethod
    def fields(self, content: list[Item]) -> Item:
        """The fields that only its kind has."""

    def whole(self, status: str) -> Item:
        """The item as it is now."""
        begun = [] if self.part is None or status == "in_progress" else [self.part]
        return {"id": self.id, "type": self.kind, "status": status, **self.fields(begun)}


class _Message(_Growing):
    kind, prefix, grows = "message", "msg", "output_text"

    def __init__(self, ids: Ids) -> None:
        super().__init__(ids)
        self._logprobs: list[Item] = []

    @property
    def part(self) -> Item:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": list(self._logprobs)}

    def grow(self, text: str, tokens: Sequence[TokenLogprob]) -> Told:
        self.text += text
        told = [token_body(token) for token in tokens]
        self._logprobs += told
        return {"logprobs": told}

    def done(self, tokens: Sequence[TokenLogprob]) -> Told:
        self._logprobs += [token_body(token) for token in tokens]
        return {"text": self.text, "logprobs": list(self._logprobs)}

    def fields(self, content: list[Item]) -> Item:
        return {"role": "assistant", "content": content}


class _Thoughts(_Growing):
    kind, prefix, grows = "reasoning", "rs", "reasoning_text"

    @property
    def part(self) -> Item:
        return {"type": "reasoning_text", "text": self.text}

    def done(self, tokens: Sequence[TokenLogprob]) -> Told:
        return {"text": self.text}

    def fields(self, content: list[Item]) -> Item:
        return {"summary": [], "content": content}


class _Call(_Growing):
    kind, prefix, grows = "function_call", "fc", "function_call_arguments"

    def __init__(self, ids: Ids, part: ToolCallPart, origin: Origin) -> None:
        super().__init__(ids)
        self.number = part.call
        self._call_id = part.id or ids.new("call")
        self._origin = origin

    def done(self, tokens: Sequence[TokenLogprob]) -> Told:
        return {"name": self._origin.name, "arguments": self.text}

    def fields(self, content: list[Item]) -> Item:
        namespace = {"namespace": self._origin.namespace} if self._origin.namespace else {}
        return {"call_id": self._call_id, "name": self._origin.name, "arguments": self.text, **namespace}


def usage_body(usage: Usage, thoughts: int) -> Told:
    """Tokens, among them those of thoughts."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _failure(error: FreeholdError) -> Told:
    """Clients know few codes here."""
    known = "rate_limit_exceeded" if isinstance(error, Busy) else "invalid_prompt"
    code = known if error.status < 500 or isinstance(error, Busy) else "server_error"
    return {"code": code, "message": error.line()}


def _head(body: wire.ResponseRequest, response: str) -> Told:
    """The response before it has begun."""
    effort = body.reasoning.effort if body.reasoning else None
    return {
        "id": response,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": {"format": _format(body), "verbosity": "medium"},
        "tool_choice": _tool_choice(body.tool_choice),
        "tools": [_tool(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
    }


def _format(body: wire.ResponseRequest) -> Told:
    form = body.text.format if body.text and body.text.format else wire.Format()
    if form.type != "json_schema":
        return {"type": form.type}
    given = {"name": form.name, "description": form.description, "schema": form.schema or {}, "strict": form.strict}
    return {"type": form.type, **given}


def _tool_choice(choice: str | wire.ToolChoice | None) -> str | Told:
    if not isinstance(choice, wire.ToolChoice):
        return choice or "auto"
    if choice.type != "allowed_tools":
        return {"type": choice.type, "name": choice.name}
    allowed = [{"type": tool.type, "name": tool.name} for tool in choice.tools or ()]
    return {"type": choice.type, "mode": choice.mode, "tools": allowed}


def _tool(tool: wire.Tool) -> Told:
    head = {"type": tool.type, "name": tool.name, "description": tool.description}
    if tool.type == "namespace":
        return {**head, "description": tool.description or "", "tools": [_tool(each) for each in tool.tools or ()]}
    return {**head, "parameters": tool.parameters, "strict": tool.strict}
