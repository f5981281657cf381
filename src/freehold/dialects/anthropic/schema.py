"""What Anthropic's clients send. Every documented field is here: used, harmless, or refused by name in `translate`.

https://docs.claude.com/en/api/messages
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(max_length=8 << 20)]
Label = Annotated[str, Meta(max_length=256)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Count = Annotated[int, Meta(ge=1, le=1 << 20)]


class Block(msgspec.Struct):
    """A piece of a message. Which fields count depends on its type."""

    type: Label
    text: Text | None = None
    id: Label | None = None
    name: Label | None = None
    input: dict[str, Any] | None = None
    tool_use_id: Label | None = None
    content: "Text | Annotated[list[Block], Meta(max_length=1024)] | None" = None
    is_error: bool | None = None
    source: dict[Label, Any] | None = None
    title: Text | None = None
    context: Text | None = None
    thinking: Text | None = None


Content = Text | Annotated[list[Block], Meta(max_length=4096)]


class Message(msgspec.Struct):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Content


class Tool(msgspec.Struct):
    """A function that may be called."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
    input_schema: dict[str, Any] | None = None
    description: Text | None = None
    type: Label | None = None


class ToolChoice(msgspec.Struct):
    """Whether a tool must be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: Label | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """Whether a model that can think does so before it answers. A budget of tokens is not kept to."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Count | None = None
    display: Label | None = None


class Format(msgspec.Struct):
    """The form of the answer."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct):
    """How to answer."""

    format: Format | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class Prompt(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/messages/count_tokens, and what it shares with /v1/messages."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    system: Content | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    cache_control: Any = None
    # Refused: they ask for what only the vendor's own servers do.
    mcp_servers: Any = None
    context_management: Any = None
    container: Any = None


class MessagesRequest(Prompt, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/messages."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=16)] | None = (
        None
    )
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    # Without effect on what a local model answers:
    metadata: Annotated[dict[Label, Any], Meta(max_length=64)] | None = None
    service_tier: Label | None = None
    inference_geo: Label | None = None
    speed: Label | None = None


class BatchRow(msgspec.Struct, forbid_unknown_fields=True):
    """One request of a batch; its `params` are read when it is its turn."""

    custom_id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    params: dict[str, Any]


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/messages/batches."""

    requests: Annotated[list[BatchRow], Meta(min_length=1, max_length=100_000)]
