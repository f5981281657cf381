"""Our events as Ollama's answers, whole or as the lines of a stream. Pure but for the clock."""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from freehold.core.errors import FreeholdError
from freehold.core.event import (
    Embeddings,
    Event,
    Failed,
    Finished,
    Logprobs,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCallPart,
    Usage,
)

_NS = 1_000_000


def error_body(error: FreeholdError) -> dict[str, Any]:
    """An error as Ollama's clients read it: a string."""
    return {"error": error.line()}


def now() -> str:
    """The time, as Go writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Answer:
    """A chat (`chat`) or generated text as it grows. `feed` tells a stream's lines, `whole` makes one object of all."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model = model
        self._chat = chat
        self._begun = time.monotonic_ns()
        self._logprobs: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []
        self._arguments = ""
        self._open = False
        self.text = ""

    def feed(self, event: Event) -> Iterator[dict[str, Any]]:
        """The stream's lines for one event. Raises the error of a Failed."""
        match event:
            case Failed():
                raise event.error
            case Logprobs():
                self._logprobs += [_logprob(token) for token in event.tokens]
            case Text():
                self.text += event.text
                yield self._line(text=event.text)
            case Reasoning():
                yield self._line(thinking=event.text)
            case ToolCallPart():
                yield from self._tool(event)
            case Finished():
                yield from self._closed()
                yield self._line() | self._end(event)

    def loaded(self, reason: str) -> dict[str, Any]:
        """The answer to a request that asks nothing: the model is loaded, or is not any more."""
        return self._line() | {"done": True, "done_reason": reason}

    def whole(self, lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """One object that says what all the lines say."""
        said: dict[str, Any] = {}
        logprobs: list[dict[str, Any]] = []
        last: dict[str, Any] = {}
        for last in lines:
            logprobs += last.pop("logprobs", [])
            for key, value in (last["message"] if self._chat else last).items():
                if key in ("content", "response", "thinking", "tool_calls"):
                    said[key] = said[key] + value if key in said else value
        merged = {"message": {**last["message"], **said}} if self._chat else said
        return last | merged | ({"logprobs": logprobs} if logprobs else {})

    def _line(self, *, text: str = "", thinking: str = "", calls: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
        extra: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if called := list(calls):
            extra["tool_calls"] = called
        said = (
            {"message": {"role": "assistant", "content": text, **extra}} if self._chat else {"response": text, **extra}
        )
        line = {"model": self._model, "created_at": now(), **said, "done": False}
        if self._logprobs:
            line["logprobs"], self._logprobs = self._logprobs, []
        return line

    def _tool(self, part: ToolCallPart) -> Iterator[dict[str, Any]]:
        """Calls are told whole: their arguments are an object here."""
        if part.call >= len(self._calls):
            yield from self._closed()
            function = {"index": part.call, "name": part.name, "arguments": {}}
            self._calls.append({"id": part.id, "function": function})
            self._open = True
        self._arguments += part.arguments

    def _closed(self) -> Iterator[dict[str, Any]]:
        if self._open:
            self._calls[-1]["function"]["arguments"] = _decoded(self._arguments)
            self._arguments, self._open = "", False
            yield self._line(calls=self._calls[-1:])

    def _end(self, event: Finished) -> dict[str, Any]:
        usage, timings = event.usage, event.timings
        total = time.monotonic_ns() - self._begun
        prompt, generate = int(timings.prompt_ms * _NS), int(timings.generate_ms * _NS)
        return {
            "done": True,
            "done_reason": "length" if event.reason == "length" else "stop",
            "total_duration": total,
            "load_duration": max(0, total - prompt - generate),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": prompt,
            "eval_count": usage.completion_tokens,
            "eval_duration": generate,
        }


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    told: dict[str, Any] = {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}
    return told | ({"top_logprobs": [_logprob(other) for other in token.top]} if token.top else {})


def _decoded(arguments: str) -> dict[str, Any]:
    """The arguments of a call; one that ended early, or is too deep, is told as text, not lost."""
    try:
        found = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": arguments}
    return found if isinstance(found, dict) else {"_raw": arguments}


class Embedded:
    """Vectors in Ollama's shape, with the time that they took."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._begun = time.monotonic_ns()

    def body(self, found: Embeddings | None, dimensions: int = 0) -> dict[str, Any]:
        """What /api/embed answers; None where nothing was asked."""
        found = found or Embeddings((), Usage())
        return {
            "model": self._model,
            "embeddings": [shortened(vector, dimensions) for vector in found.vectors],
            "total_duration": time.monotonic_ns() - self._begun,
            "load_duration": 0,
            "prompt_eval_count": found.usage.prompt_tokens,
        }


def shortened(vector: tuple[float, ...], dimensions: int) -> list[float]:
    """The first so many dimensions, of length 1 again; all for 0 or for more than there are."""
    if not 0 < dimensions < len(vector):
        return list(vector)
    kept = vector[:dimensions]
    length = sum(value * value for value in kept) ** 0.5
    return [value / length for value in kept] if length else list(kept)
