"""What llama-server's clients send. Fields that are not here, and those that are null, are left aside, as it does.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from freehold.core.request import MAX_IMAGES
from freehold.dialects.openai import schema as openai
from freehold.formats.images import MAX_BASE64

Text = Annotated[str, Meta(max_length=8 << 20)]
Label = Annotated[str, Meta(max_length=256)]
TokenId = Annotated[int, Meta(ge=0, le=1 << 24)]
Part = Annotated[float, Meta(ge=0, le=1)]
Factor = Annotated[float, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=0, le=1 << 20)]
Window = Annotated[int, Meta(ge=-1, le=1 << 20)]
Bias = Annotated[float, Meta(ge=-100, le=100)] | bool
"""False stands for a token that must not come."""


BiasItem = Label | Annotated[float, Meta(ge=-100, le=1 << 24)] | bool
"""A text, a token or its bias; which of them the place says."""


Media = Annotated[list[Annotated[str, Meta(max_length=MAX_BASE64)]], Meta(max_length=MAX_IMAGES)] | None
"""Images in base64."""


class PromptObject(msgspec.Struct):
    """A prompt with marks in it, and the images that they stand for."""

    prompt_string: Text
    multimodal_data: Media = None


Prompt = (
    Text
    | PromptObject
    | Annotated[
        list[Text | TokenId | PromptObject | Annotated[list[Text | TokenId], Meta(max_length=1 << 20)]],
        Meta(max_length=1 << 20),
    ]
)
"""A text, token ids, both mixed, or a list of such prompts."""


class Scale(msgspec.Struct):
    """How strong an adapter is."""

    id: Annotated[int, Meta(ge=0, le=63)]
    scale: Annotated[float, Meta(ge=-100, le=100)] = 0.0


class ExtraFile(msgspec.Struct):
    """Another file that the model may look at."""

    text: Text
    filename: Label = "tmp"


class _Sampled(msgspec.Struct, kw_only=True):
    """Fields about drawing tokens, which chat and plain completions share; named as core.request.Sampling has them."""

    stream: bool = False
    stream_options: openai.StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    top_p: Part | None = None
    min_p: Part | None = None
    presence_penalty: openai.Penalty | None = None
    frequency_penalty: openai.Penalty | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    seed: openai.Seed | None = None
    stop: openai.Stop = None
    grammar: Annotated[str, Meta(max_length=1 << 16)] | None = None
    repeat_last_n: Window | None = None
    typical_p: Part | None = None
    top_n_sigma: Annotated[float, Meta(ge=-1, le=100)] | None = None
    min_keep: Count | None = None
    dynatemp_range: Annotated[float, Meta(ge=0, le=10)] | None = None
    dynatemp_exponent: Annotated[float, Meta(ge=0, le=10)] | None = None
    xtc_probability: Part | None = None
    xtc_threshold: Part | None = None
    dry_multiplier: Factor | None = None
    dry_base: Factor | None = None
    dry_allowed_length: Count | None = None
    dry_penalty_last_n: Window | None = None
    dry_sequence_breakers: Annotated[list[Label], Meta(max_length=64)] | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Factor | None = None
    mirostat_eta: Factor | None = None
    adaptive_target: Annotated[float, Meta(ge=-1, le=1)] | None = None
    adaptive_decay: Part | None = None
    samplers: Annotated[list[Label], Meta(max_length=32)] | Annotated[str, Meta(max_length=64)] | None = None
    ignore_eos: bool | None = None
    cache_prompt: bool | None = None
    id_slot: Annotated[int, Meta(ge=-1, le=1 << 10)] | None = None
    lora: Annotated[list[Scale], Meta(max_length=64)] | None = None
    n_predict: Annotated[int, Meta(ge=-2, le=1 << 20)] | None = None
    n_probs: Annotated[int, Meta(ge=0, le=1024)] | None = None
    n_keep: Annotated[int, Meta(ge=-1, le=1 << 24)] | None = None
    json_schema: dict[str, Any] | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None


class CompletionRequest(_Sampled, kw_only=True):
    """POST /completion, /completions, /v1/completions."""

    prompt: Prompt = ""
    model: Label = ""
    logit_bias: (
        Annotated[list[Annotated[list[BiasItem], Meta(min_length=2, max_length=2)]], Meta(max_length=1024)]
        | Annotated[dict[Label, Bias], Meta(max_length=1024)]
        | None
    ) = None
    max_tokens: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=1024)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    n_cmpl: Annotated[int, Meta(ge=1, le=16)] | None = None
    n_indent: Annotated[int, Meta(ge=0, le=1 << 16)] | None = None
    t_max_predict_ms: Annotated[int, Meta(ge=-1, le=86_400_000)] | None = None
    post_sampling_probs: bool = False
    return_tokens: bool = False
    response_fields: Annotated[list[Label], Meta(max_length=128)] = []


class InfillRequest(CompletionRequest, kw_only=True):
    """POST /infill."""

    prompt: Text = ""
    input_prefix: Text
    input_suffix: Text
    input_extra: Annotated[list[ExtraFile], Meta(max_length=256)] = []


class JsonSchema(msgspec.Struct):
    """A schema, which need not be named."""

    schema: dict[str, Any]
    name: Label = ""


class ResponseFormat(msgspec.Struct):
    """The form of the answer; a schema may stand here too."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None


class TemplateRequest(_Sampled, kw_only=True):
    """POST /apply-template: what a chat template reads."""

    messages: Annotated[list[openai.Message], Meta(min_length=1, max_length=4096)]
    model: Label | None = None
    tools: Annotated[list[openai.Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | openai.NamedTool | None = None
    parallel_tool_calls: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: Annotated[dict[Label, Any], Meta(max_length=64)] = {}
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class ChatRequest(TemplateRequest, kw_only=True):
    """POST /v1/chat/completions."""

    logit_bias: Annotated[dict[Label, Bias], Meta(max_length=1024)] | None = None
    max_tokens: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    verbose: bool = False


class TokenizeRequest(msgspec.Struct):
    """POST /tokenize."""

    content: Prompt = ""
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False
    model: Label = ""


class DetokenizeRequest(msgspec.Struct):
    """POST /detokenize."""

    tokens: Annotated[list[TokenId], Meta(max_length=1 << 20)] = []
    model: Label = ""


class ContentPart(msgspec.Struct):
    """A piece of an input; only text is understood."""

    type: Label
    text: Text | None = None


class InputObject(msgspec.Struct):
    """An input in pieces, or a text beside which media may stand; media are refused."""

    prompt_string: Text | None = None
    content: Annotated[list[ContentPart], Meta(min_length=1, max_length=1024)] | None = None
    multimodal_data: Media = None


Input = (
    Text
    | InputObject
    | Annotated[
        list[Text | TokenId | InputObject | Annotated[list[Text | TokenId], Meta(max_length=1 << 20)]],
        Meta(min_length=1, max_length=1 << 20),
    ]
)


class EmbeddingRequest(msgspec.Struct):
    """POST /v1/embeddings."""

    input: Input
    model: Label = ""
    encoding_format: Literal["float", "base64"] = "float"


class NativeEmbeddingRequest(msgspec.Struct):
    """POST /embedding; llama-server takes the texts as `content` or as `input`."""

    content: Input | None = None
    input: Input | None = None
    model: Label = ""
    embd_normalize: Annotated[int, Meta(ge=-1, le=64)] | None = None


class RerankRequest(msgspec.Struct):
    """POST /rerank; with `texts` it is TEI's."""

    query: Text
    documents: Annotated[list[Text], Meta(min_length=1, max_length=2048)] | None = None
    texts: Annotated[list[Text], Meta(min_length=1, max_length=2048)] | None = None
    top_n: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    return_text: bool = False
    model: Label = ""


class SlotFile(msgspec.Struct):
    """POST /slots/{id}?action=save and restore."""

    filename: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]


class Instances(msgspec.Struct):
    """POST /predict: chat completions as Google's Vertex AI wraps them."""

    instances: Annotated[list[ChatRequest], Meta(min_length=1, max_length=16)]


AdapterScales = Annotated[list[Scale], Meta(max_length=64)]
