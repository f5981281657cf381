"""Our events as OpenAI's answers, whole or in chunks. Pure."""

import base64
import math
import struct
import time
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from freehold import __version__
from freehold.core.errors import FreeholdError
from freehold.core.event import (
    Embeddings,
    Event,
    Failed,
    Finished,
    Logprobs,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolCallPart,
    Usage,
)
from freehold.dialects.openai import schema
from freehold.store import Entry

FINGERPRINT = f"freehold-{__version__}"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_body(error: FreeholdError) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    code = None if error.code == "invalid_request_error" else error.code
    return {"error": {"message": error.line(), "type": kind, "param": error.param, "code": code}}


def model_body(entry: Entry) -> dict[str, Any]:
    """A model of the catalog."""
    return {
        "id": str(entry.name),
        "object": "model",
        "created": int(entry.modified),
        "owned_by": entry.name.org or "freehold",
        "architecture": modalities(entry.manifest.part("projector") is not None),
    }


def modalities(seeing: bool) -> dict[str, Any]:
    """What a model takes and gives, as OpenRouter and llama-server list it beside OpenAI's fields."""
    return {"input_modalities": ["text", *(["image"] if seeing else [])], "output_modalities": ["text"]}


def usage_body(usage: Usage) -> dict[str, Any]:
    """Tokens of all choices."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def embeddings_body(embeddings: Embeddings, model: str, base64_wanted: bool) -> dict[str, Any]:
    """Vectors, as numbers or as base64 of little-endian float32."""
    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if base64_wanted else vector}
            for index, vector in enumerate(embeddings.vectors)
        ],
        "usage": {"prompt_tokens": embeddings.usage.prompt_tokens, "total_tokens": embeddings.usage.prompt_tokens},
    }


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


class _Answer:
    """What whole answers and streams of one request share: its head and its usage."""

    kind = ""
    id_prefix = ""

    def __init__(self, model: str) -> None:
        self.usage = Usage()
        self._head = {
            "id": f"{self.id_prefix}-{uuid.uuid4().hex}",
            "object": self.kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }

    @property
    def head(self) -> dict[str, Any]:
        """What is said of it before its choices."""
        return dict(self._head)

    def _body(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {**self._head, "choices": choices, **more}


class Whole(_Answer, ABC):
    """An answer in one piece."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._choices: dict[int, _Choice] = defaultdict(_Choice)

    def feed(self, event: Event) -> None:
        """Take one event. Raises the error of a Failed."""
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            self.usage += event.usage
        self._choices[event.index].feed(event)

    def body(self) -> dict[str, Any]:
        """The answer."""
        choices = [self._choice(index, self._choices[index]) for index in sorted(self._choices)]
        return self._body(choices, usage=usage_body(self.usage))

    @abstractmethod
    def _choice(self, index: int, choice: "_Choice") -> dict[str, Any]: ...


class Stream(_Answer, ABC):
    """An answer in chunks. Log-probabilities go out with the text that follows them."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        super().__init__(model)
        self._more: dict[str, Any] = {"usage": None} if include_usage else {}
        self._logprobs: dict[int, list[TokenLogprob]] = defaultdict(list)

    def feed(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunks for one event."""
        if isinstance(event, Logprobs):
            self._logprobs[event.index] += event.tokens
        elif isinstance(event, Failed):
            yield error_body(event.error)
        else:
            reason = None
            if isinstance(event, Finished):
                self.usage += event.usage
                reason = event.reason
            piece = self._piece(event, self._logprobs.get(event.index, []))
            if piece is not None:
                self._logprobs.pop(event.index, None)
                yield self._body([{"index": event.index, **piece, "finish_reason": reason}], **self._more)

    def last(self) -> Iterator[dict[str, Any]]:
        """The chunk after all choices."""
        if self._more:
            yield self._body([], usage=usage_body(self.usage))

    @abstractmethod
    def _piece(self, event: Event, tokens: list[TokenLogprob]) -> dict[str, Any] | None:
        """What a chunk says about an event, and about the tokens that belong to it; None if nothing."""


class ChatStream(Stream):
    """A chat completion in chunks."""

    kind, id_prefix = "chat.completion.chunk", "chatcmpl"

    def _piece(self, event: Event, tokens: list[TokenLogprob]) -> dict[str, Any] | None:
        delta = _delta(event)
        return None if delta is None else {"delta": delta, "logprobs": _chat_logprobs(tokens)}


def _delta(event: Event) -> dict[str, Any] | None:
    match event:
        case Started():
            return {"role": "assistant", "content": "", "refusal": None}
        case Text():
            return {"content": event.text}
        case Reasoning():
            return {"reasoning_content": event.text}
        case ToolCallPart():
            return {"tool_calls": [_call_delta(event)]}
        case Finished():
            return {}
        case _:
            return None


def _call_delta(part: ToolCallPart) -> dict[str, Any]:
    function = {"name": part.name, "arguments": part.arguments} if part.name else {"arguments": part.arguments}
    first = {"id": part.id, "type": "function"} if part.id else {}
    return {"index": part.call, **first, "function": function}


class ChatWhole(Whole):
    """A chat completion in one piece."""

    kind, id_prefix = "chat.completion", "chatcmpl"

    def _choice(self, index: int, choice: "_Choice") -> dict[str, Any]:
        text = "".join(choice.text)
        content = text or (None if choice.calls else "")
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if choice.reasoning:
            message["reasoning_content"] = "".join(choice.reasoning)
        if choice.calls:
            message["tool_calls"] = [_call(call) for _, call in sorted(choice.calls.items())]
        logprobs = _chat_logprobs(choice.tokens)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.reason}


def _call(call: dict[str, str]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "type": "function", "function": function}


class _Choice:
    """One choice as it grows."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, dict[str, str]] = {}
        self.tokens: list[TokenLogprob] = []
        self.reason: str | None = None

    def feed(self, event: Event) -> None:
        match event:
            case Text():
                self.text.append(event.text)
            case Reasoning():
                self.reasoning.append(event.text)
            case Logprobs():
                self.tokens += event.tokens
            case ToolCallPart():
                call = self.calls.setdefault(event.call, {"id": event.id, "name": event.name, "arguments": ""})
                call["arguments"] += event.arguments
            case Finished():
                self.reason = event.reason


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not tokens:
        return None
    return {"content": [token_body(token) for token in tokens], "refusal": None}


def token_body(token: TokenLogprob) -> dict[str, Any]:
    """A token with its log-probability and its alternatives."""
    return {**_token(token), "top_logprobs": [_token(other) for other in token.top]}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}


class CompletionStream(Stream):
    """A plain completion in chunks."""

    kind, id_prefix = "text_completion", "cmpl"

    def __init__(self, model: str, *, include_usage: bool) -> None:
        super().__init__(model, include_usage=include_usage)
        self._sent: dict[int, int] = defaultdict(int)

    def _piece(self, event: Event, tokens: list[TokenLogprob]) -> dict[str, Any] | None:
        text = event.text if isinstance(event, Text) else ""
        if not text and not isinstance(event, Finished):
            return None
        logprobs = _plain_logprobs(tokens, self._sent[event.index])
        self._sent[event.index] += len(text)
        return {"text": text, "logprobs": logprobs}


class CompletionWhole(Whole):
    """A plain completion in one piece."""

    kind, id_prefix = "text_completion", "cmpl"

    def _choice(self, index: int, choice: "_Choice") -> dict[str, Any]:
        return {
            "index": index,
            "text": "".join(choice.text),
            "logprobs": _plain_logprobs(choice.tokens, 0),
            "finish_reason": choice.reason,
        }


class BestCompletions(CompletionWhole):
    """The same, with the likeliest `n` of each `made` choices, by the mean of their tokens' log-probabilities."""

    def __init__(self, model: str, made: int, n: int, *, logprobs: bool) -> None:
        super().__init__(model)
        self._made, self._n, self._told = made, n, logprobs

    def body(self) -> dict[str, Any]:
        """The answer; its usage counts the choices that are not told too."""
        found = [self._choices[index] for index in sorted(self._choices)]
        groups = [found[start : start + self._made] for start in range(0, len(found), self._made)]
        best = [choice for group in groups for choice in sorted(group, key=_unlikely)[: self._n]]
        choices = [self._choice(index, choice) for index, choice in enumerate(best)]
        told = choices if self._told else [{**choice, "logprobs": None} for choice in choices]
        return self._body(told, usage=usage_body(self.usage))


def _unlikely(choice: "_Choice") -> float:
    """How much others go before it; one without a token is the last."""
    return -sum(token.logprob for token in choice.tokens) / len(choice.tokens) if choice.tokens else math.inf


def completion_whole(body: schema.CompletionRequest, made: int) -> CompletionWhole:
    """The answer to a request for which `made` choices are drawn for each prompt."""
    n = body.n or 1
    if made == n:
        return CompletionWhole(body.model)
    return BestCompletions(body.model, made, n, logprobs=body.logprobs is not None)


def _plain_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any] | None:
    """The older form: parallel lists, and alternatives as objects. A token that nothing stands before has neither."""
    if not tokens:
        return None
    found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        known = not math.isnan(token.logprob)
        found["tokens"].append(token.token)
        found["token_logprobs"].append(token.logprob if known else None)
        found["top_logprobs"].append({other.token: other.logprob for other in token.top} if known else None)
        found["text_offset"].append(offset)
        offset += len(token.token)
    return found
