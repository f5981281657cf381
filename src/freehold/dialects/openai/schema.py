"""What OpenAI's clients send. Every documented field is here: used, harmless, or refused by name in `translate`.

https://platform.openai.com/docs/api-reference
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from freehold.formats.images import MAX_URL

Text = Annotated[str, Meta(max_length=8 << 20)]
Label = Annotated[str, Meta(max_length=256)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Count = Annotated[int, Meta(ge=1, le=1 << 20)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Seed = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
TokenId = Annotated[int, Meta(ge=0, le=1 << 24)]
Stop = (
    Annotated[str, Meta(max_length=1024)]
    | Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=16)]
    | None
)
LogitBias = Annotated[
    dict[Annotated[str, Meta(pattern=r"^[0-9]{1,8}\Z")], Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)
]
Metadata = Annotated[dict[Label, Any], Meta(max_length=64)]


class ImageUrl(msgspec.Struct):
    """An image, as a data: URL."""

    url: Annotated[str, Meta(max_length=MAX_URL)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ContentPart(msgspec.Struct):
    """A piece of a message: text or an image."""

    type: Label
    text: Text | None = None
    refusal: Text | None = None
    image_url: ImageUrl | None = None


class FunctionCall(msgspec.Struct):
    """The name and the arguments (JSON text) of a call."""

    name: Label
    arguments: Text = ""


class ToolCall(msgspec.Struct):
    """A call that the assistant made earlier."""

    id: Label
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(msgspec.Struct):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[ContentPart], Meta(max_length=1024)] | None = None
    name: Label | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    tool_call_id: Label | None = None
    refusal: Text | None = None
    reasoning_content: Text | None = None
    """Not OpenAI's, but what every local server answers thoughts in, so clients send it back."""
    audio: Any = None
    function_call: Any = None


class Function(msgspec.Struct):
    """A function that may be called."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """A tool; only functions are known."""

    function: Function
    type: Literal["function"] = "function"


class NamedFunction(msgspec.Struct):
    """A function's name."""

    name: Label


class NamedTool(msgspec.Struct):
    """The one tool that must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


class JsonSchema(msgspec.Struct):
    """A schema for the answer."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    schema: dict[str, Any] | None = None
    description: Text | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct):
    """How to stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Sampled(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields that chat and plain completions share."""

    model: ModelName
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    logit_bias: LogitBias | None = None
    seed: Seed | None = None
    stop: Stop = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    max_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    # Not OpenAI's, but sent through its clients (`extra_body`) to every local server:
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    grammar: Annotated[str, Meta(max_length=1 << 16)] | None = None


class ChatRequest(_Sampled, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_completion_tokens: Count | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    # Without effect on what a local model answers:
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    safety_identifier: Label | None = None
    # Refused unless they ask for what is done anyway:
    modalities: Annotated[list[Label], Meta(max_length=8)] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    functions: Any = None
    function_call: Any = None
    verbosity: Label | None = None


class MetadataRequest(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/chat/completions/{id}, /v1/conversations/{id}: other metadata."""

    metadata: Metadata | None


class CompletionRequest(_Sampled, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/completions."""

    prompt: (
        Text
        | Annotated[list[Text | TokenId | Annotated[list[TokenId], Meta(max_length=1 << 20)]], Meta(max_length=4096)]
        | None
    )
    max_tokens: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    best_of: Annotated[int, Meta(ge=0, le=16)] | None = None
    suffix: Text | None = None


class EmbeddingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/embeddings."""

    model: ModelName
    input: (
        Annotated[str, Meta(max_length=8 << 20)]
        | Annotated[
            list[
                Annotated[str, Meta(max_length=8 << 20)]
                | TokenId
                | Annotated[list[TokenId], Meta(min_length=1, max_length=1 << 20)]
            ],
            Meta(min_length=1, max_length=1 << 20),
        ]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    user: Label | None = None
