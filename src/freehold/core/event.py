"""Event: what an engine says back. A stream is started, any number of parts, then finished or failed, per choice."""

from typing import Literal

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


class Started(msgspec.Struct, frozen=True):
    """The worker took the request."""

    index: int = 0
    prompt_tokens: int = 0
    """Tokens of the prompt that all choices share; 0 where the engine does not say so early."""


class Text(msgspec.Struct, frozen=True):
    """A piece of the answer, whole UTF-8."""

    text: str
    index: int = 0


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


class Finished(msgspec.Struct, frozen=True):
    """The choice is complete."""

    reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    index: int = 0
    stop: str = ""
    """The stop sequence that ended it; empty when the model ended by itself, or the engine does not tell."""


class Failed(msgspec.Struct, frozen=True):
    """The choice cannot be completed."""

    error: FreeholdError
    index: int = 0


Event = Started | Text | Reasoning | ToolCallPart | Logprobs | Finished | Failed


class Embeddings(msgspec.Struct, frozen=True):
    """One vector per input, L2-normalised, and the tokens it took."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
