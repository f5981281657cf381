"""What Ollama's clients send. Fields that no local model heeds, and options that llama.cpp has not, are passed over.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from freehold.core.request import MAX_IMAGES
from freehold.formats.images import MAX_BASE64

Text = Annotated[str, Meta(max_length=8 << 20)]
Label = Annotated[str, Meta(max_length=256)]
ModelName = Annotated[str, Meta(min_length=1, max_length=512)]
Stops = Annotated[list[Annotated[str, Meta(max_length=1024)]], Meta(max_length=16)]
Images = Annotated[list[Annotated[str, Meta(max_length=MAX_BASE64)]], Meta(max_length=MAX_IMAGES)]
"""In base64."""
Files = Annotated[dict[Annotated[str, Meta(min_length=1, max_length=200)], Label], Meta(max_length=1024)]
Format = Literal["", "json"] | dict[str, Any] | None
Think = bool | Literal["low", "medium", "high", "max"] | None
KeepAlive = Label | Annotated[float, Meta(ge=-1e18, le=1e18)] | None
Whole = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 53))]


class Options(msgspec.Struct):
    """How to draw tokens. Those about the machine are not ours to take: Freehold decides them itself."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Whole | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    seed: Whole | None = None
    stop: Stops | Annotated[str, Meta(max_length=1024)] | None = None
    num_predict: Annotated[int, Meta(ge=-(1 << 31), le=1 << 20)] | None = None
    num_ctx: Annotated[int, Meta(ge=0, le=1 << 24)] | None = None


class CalledFunction(msgspec.Struct):
    """What was called."""

    name: Label
    arguments: dict[str, Any] = {}


class Call(msgspec.Struct):
    """A call that the model made."""

    function: CalledFunction
    id: Label | None = None


class Message(msgspec.Struct):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    images: Images | None = None
    tool_calls: Annotated[list[Call], Meta(max_length=128)] | None = None
    tool_name: Label | None = None
    tool_call_id: Label | None = None
    thinking: Text | None = None


class Function(msgspec.Struct):
    """A function that may be called."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    """A tool; only functions are known."""

    function: Function
    type: Literal["function", ""] | None = None


class _Asked(msgspec.Struct, kw_only=True):
    """What every request for text has."""

    model: ModelName
    format: Format = None
    options: Options | None = None
    stream: bool | None = None
    think: Think = None
    keep_alive: KeepAlive = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncate: bool | None = None


class ChatRequest(_Asked, kw_only=True):
    """POST /api/chat."""

    messages: Annotated[list[Message], Meta(max_length=4096)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None


class GenerateRequest(_Asked, kw_only=True):
    """POST /api/generate."""

    prompt: Text | None = None
    suffix: Text | None = None
    system: Text | None = None
    template: Annotated[str, Meta(max_length=1 << 20)] | None = None
    context: Annotated[list[Annotated[int, Meta(ge=0, lt=1 << 31)]], Meta(max_length=1 << 20)] | None = None
    raw: bool | None = None
    images: Images | None = None


class EmbedRequest(msgspec.Struct, kw_only=True):
    """POST /api/embed."""

    model: ModelName
    input: Text | Annotated[list[Text], Meta(max_length=2048)] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    keep_alive: KeepAlive = None


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """POST /api/embeddings, the older one."""

    model: ModelName
    prompt: Text | None = None
    keep_alive: KeepAlive = None


class Named(msgspec.Struct, kw_only=True):
    """What names a model. Older clients say `name`."""

    model: Annotated[str, Meta(max_length=512)] = ""
    name: Annotated[str, Meta(max_length=512)] = ""
    stream: bool | None = None
    insecure: bool | None = None
    verbose: bool | None = None


class CopyRequest(msgspec.Struct, kw_only=True):
    """POST /api/copy."""

    source: ModelName
    destination: ModelName


class CreateRequest(Named, kw_only=True):
    """POST /api/create."""

    base: Annotated[str, Meta(max_length=512)] | None = msgspec.field(default=None, name="from")
    files: Files | None = None
    adapters: Files | None = None
    quantize: Label | None = None
    template: Annotated[str, Meta(max_length=1 << 20)] | None = None
    license: Text | Annotated[list[Text], Meta(max_length=64)] | None = None
    system: Text | None = None
    parameters: Annotated[dict[Label, Any], Meta(max_length=256)] | None = None
    messages: Annotated[list[Message], Meta(max_length=4096)] | None = None
