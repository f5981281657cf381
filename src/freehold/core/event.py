"""Event: what an engine says back. A stream is started, any number of parts, then finished or failed, per choice."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from freehold.core.errors import FreeholdError

FinishReason = Literal["stop", "length", "tool_calls"]


class Usage(msgspec.Struct, frozen=True):
    """Tokens counted by the engine."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Timings(msgspec.Struct, frozen=True):
    """Milliseconds spent by the engine."""

    prompt_ms: float = 0.0
    generate_ms: float = 0.0


class TokenLogprob(msgspec.Struct, frozen=True):
    """Natural-log probability of a token."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    top: tuple["TokenLogprob", ...] = ()
    id: int = -1
    """Its number in the vocabulary, where the engine tells."""


class Started(msgspec.Struct, frozen=True):
    """The worker took the request."""

    index: int = 0
    prompt_tokens: int = 0
    """Tokens of the prompt that all choices share; 0 where the engine does not say so early."""


class Text(msgspec.Struct, frozen=True):
    """A piece of the answer, whole UTF-8."""

    text: str
    index: int = 0
    tokens: tuple[int, ...] = ()
    """Of which it is made, where the request asks for detail; the text may lag behind them."""


class Reasoning(msgspec.Struct, frozen=True):
    """A piece of what the model thought before it answered."""

    text: str
    index: int = 0


class ToolCallPart(msgspec.Struct, frozen=True):
    """A piece of a tool call: the first carries id and name, each appends to the arguments."""

    call: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    index: int = 0


class Logprobs(msgspec.Struct, frozen=True):
    """Log-probabilities of tokens just sent."""

    tokens: tuple[TokenLogprob, ...]
    index: int = 0


class Progress(msgspec.Struct, frozen=True):
    """How far a request is, where it asks for that, in the engine's own words."""

    told: Mapping[str, Any]
    index: int = 0


class Finished(msgspec.Struct, frozen=True):
    """The choice is complete."""

    reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    index: int = 0
    stop: str = ""
    """The stop sequence that ended it; empty when the model ended by itself, or the engine does not tell."""
    detail: Mapping[str, Any] = {}
    """What the engine tells beside, in its own words, where the request asks for detail."""


class Failed(msgspec.Struct, frozen=True):
    """The choice cannot be completed."""

    error: FreeholdError
    index: int = 0


Event = Started | Text | Reasoning | ToolCallPart | Logprobs | Progress | Finished | Failed


class Embeddings(msgspec.Struct, frozen=True):
    """One vector per input, L2-normalised, and the tokens it took."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
    per_token: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """For each input a vector per token, or one, if that was asked for; then `vectors` is empty."""


class Ranking(msgspec.Struct, frozen=True):
    """How well each document answers the query, in the engine's scale, in the order they were given."""

    scores: tuple[float, ...]
    usage: Usage = Usage()
