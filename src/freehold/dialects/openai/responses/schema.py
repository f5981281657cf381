"""What clients send to the Responses API. Every documented field is here: used, harmless, or refused in `translate`.

https://platform.openai.com/docs/api-reference/responses
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from freehold.dialects.openai.schema import (
    Count,
    Label,
    LogitBias,
    ModelName,
    Penalty,
    Seed,
    Stop,
    StreamOptions,
    Text,
)
from freehold.formats.images import MAX_URL

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class Part(msgspec.Struct):
    """A piece of a message, of a tool's answer or of reasoning: text or an image."""

    type: Label
    text: Text | None = None
    refusal: Text | None = None
    image_url: Annotated[str, Meta(max_length=MAX_URL)] | None = None
    file_id: Label | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


Parts = Annotated[list[Part], Meta(max_length=1024)]


class Item(msgspec.Struct):
    """One item of a conversation. Which fields matter depends on its type; a message need not name it."""

    type: Label | None = None
    id: Label | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Text | Parts | None = None
    phase: Label | None = None
    call_id: Label | None = None
    namespace: Label | None = None
    name: Label | None = None
    arguments: Text | None = None
    output: Text | Parts | None = None
    summary: Parts | None = None
    encrypted_content: Text | None = None


class Tool(msgspec.Struct):
    """A function, or a namespace of functions; of other tools only the type is looked at."""

    type: Label
    name: Label | None = None
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    tools: "Annotated[list[Tool], Meta(max_length=128)] | None" = None


class ToolChoice(msgspec.Struct):
    """The tool that must be called, or those that may be."""

    type: Label
    name: Label | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None


class Format(msgspec.Struct):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    schema: dict[str, Any] | None = None
    description: Text | None = None
    strict: bool | None = None


class TextForm(msgspec.Struct):
    """How the text is to be."""

    format: Format | None = None
    verbosity: Label | None = None


class ReasoningWish(msgspec.Struct):
    """How the model is to think. Its thoughts are shown as they are, so a summary of them is not made."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Label | None = None
    mode: Label | None = None


class ConversationName(msgspec.Struct):
    """A conversation that is kept."""

    id: Label


class ConversationRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/conversations."""

    items: Annotated[list[Item], Meta(max_length=4096)] | None = None
    metadata: Metadata | None = None


class ItemsRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/conversations/{id}/items."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=4096)]


class Conversation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every route that reads a conversation takes."""

    model: ModelName
    input: Text | Annotated[list[Item], Meta(max_length=4096)] | None = None
    instructions: Text | None = None
    previous_response_id: Label | None = None


class CompactRequest(Conversation, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/responses/compact."""

    # Without effect on what a local model answers:
    service_tier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: Any = None
    image: Any = None


class Asked(Conversation, kw_only=True, forbid_unknown_fields=True):
    """What both routes that answer or count a conversation take."""

    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextForm | None = None
    reasoning: ReasoningWish | None = None
    truncation: Literal["auto", "disabled"] | None = None
    conversation: Label | ConversationName | None = None


class TokensRequest(Asked, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/responses/input_tokens."""

    personality: Annotated[str, Meta(max_length=64)] | None = None


class ResponseRequest(Asked, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/responses."""

    include: Annotated[list[Label], Meta(max_length=32)] | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    # Not OpenAI's, but sent through its clients (`extra_body`) to local servers:
    seed: Seed | None = None
    stop: Stop = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    # Without effect on what a local model answers:
    max_tool_calls: Count | None = None  # of hosted tools, and there are none
    service_tier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: Any = None
    safety_identifier: Label | None = None
    client_metadata: Any = None
    image: Any = None
    # Refused unless they ask for what is done anyway:
    background: bool | None = None
    background_options: Any = None
    prompt: Any = None
    context_management: Any = None
    moderation: Any = None
    access_programs: Any = None
