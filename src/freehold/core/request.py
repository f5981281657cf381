"""Request: what any dialect asks of any engine. Every field has a minimum and a maximum."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TEXT = 8 << 20
MAX_MESSAGES = 4096

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Label = Annotated[str, Meta(max_length=256)]
FOREVER = 1e10
KeepAlive = Annotated[float, Meta(ge=0, le=FOREVER)] | None
"""Seconds for which the model stays loaded after the request; 300 years are for good. None: as the settings say."""
TokenIds = Annotated[tuple[Annotated[int, Meta(ge=0, lt=1 << 31)], ...], Meta(max_length=1 << 20)]


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made; `arguments` is JSON text."""

    id: Label
    name: Label
    arguments: Text


class Message(msgspec.Struct, frozen=True):
    """One turn. `role` tool answers the call `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text = ""
    tool_calls: Annotated[tuple[ToolCall, ...], Meta(max_length=128)] = ()
    tool_call_id: Label = ""
    name: Label = ""
    reasoning: Text = ""
    """What the assistant thought before this; whether the model reads it again is up to its template."""


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+\Z")]
    description: Text = ""
    parameters: dict[str, Any] = {}


class Constraint(msgspec.Struct, frozen=True):
    """What the output must match."""

    kind: Literal["json", "schema", "grammar"]
    schema: dict[str, Any] = {}
    grammar: Annotated[str, Meta(max_length=1 << 16)] = ""


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are drawn. None leaves it to the model's or the engine's default."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    logit_bias: Annotated[dict[int, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)] = {}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of generation. Either `messages` (chat) or `prompt` (raw text) is set."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[tuple[Message, ...], Meta(max_length=MAX_MESSAGES)] = ()
    prompt: Text | TokenIds | None = None
    prefill: Text = ""
    """What the answer to `messages` begins with; the events do not repeat it."""
    tools: Annotated[tuple[Tool, ...], Meta(max_length=128)] = ()
    tool_choice: Label = "auto"
    """auto, none, required, or the name of one tool."""
    parallel_tool_calls: bool = True
    """Whether one answer may hold several calls."""
    constraint: Constraint | None = None
    sampling: Sampling = Sampling()
    max_tokens: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    stop: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=16)] = ()
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    """None: not wanted. Otherwise this many alternatives for each token, beside the token itself."""
    n: Annotated[int, Meta(ge=1, le=16)] = 1
    think: bool | None = None
    """Whether a model that can think before it answers does so. None: as it was made."""
    effort: Label = ""
    """How long it thinks, in its template's words: low, medium, high."""
    adapter: Label = ""
    """The digest of an adapter to be applied for this request alone."""
    context_length: Annotated[int, Meta(ge=16, le=1 << 24)] | None = None
    """Tokens of context that the worker has at least, or as many as the model was trained with."""
    truncate: bool = False
    """Whether the oldest turns may be left out of a conversation that does not fit the context."""
    keep_alive: KeepAlive = None
    deadline: Annotated[float, Meta(gt=0, le=86400)] = 600.0
    """Seconds from admission."""


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors wanted for texts."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    inputs: Annotated[tuple[Text | TokenIds, ...], Meta(min_length=1, max_length=2048)]
    """Each a text or its token ids."""
    truncate: bool = False
    """Whether the ends of texts that do not fit the context may be cut off."""
    keep_alive: KeepAlive = None
    deadline: Annotated[float, Meta(gt=0, le=86400)] = 600.0
