"""Request: what any dialect asks of any engine. Every field has a minimum and a maximum."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TEXT = 8 << 20
MAX_MESSAGES = 4096
MAX_IMAGES = 64
"""Of one request, those of all its turns."""
MAX_IMAGE = 20 << 20
"""Bytes of an image as it came."""
MAX_SIDE = 1 << 16
"""Pixels of an image's longer side."""
COARSE = 512

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Label = Annotated[str, Meta(max_length=256)]
FOREVER = 1e10
KeepAlive = Annotated[float, Meta(ge=0, le=FOREVER)] | None
"""Seconds for which the model stays loaded after the request; 300 years are for good. None: as the settings say."""
TokenIds = Annotated[tuple[Annotated[int, Meta(ge=0, lt=1 << 31)], ...], Meta(max_length=1 << 20)]


class Image(msgspec.Struct, frozen=True):
    """An image amid text, with `place` characters of the text before it. Made by `formats.images`, which checks it."""

    data: Annotated[bytes, Meta(max_length=MAX_IMAGE)]
    """The file as it came."""
    media_type: Literal["image/png", "image/jpeg", "image/webp", "image/gif"]
    width: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    height: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    """In pixels, as the header says."""
    place: Annotated[int, Meta(ge=0, le=MAX_TEXT)] = 0
    coarse: bool = False
    """Whether a glance at it will do: at most COARSE pixels a side."""


Images = Annotated[tuple[Image, ...], Meta(max_length=MAX_IMAGES)]


def pieces(text: str, images: Sequence[Image]) -> Iterator[str | Image]:
    """Text and images in their order; no text is empty."""
    begin = 0
    for image in sorted(images, key=lambda image: image.place):
        if text[begin : image.place]:
            yield text[begin : image.place]
        begin = max(begin, image.place)
        yield image
    if text[begin:]:
        yield text[begin:]


def joined(given: Iterable[str | Image], joint: str = "") -> tuple[str, tuple[Image, ...]]:
    """The other way: one text, and the images with their places in it. `joint` stands between two texts."""
    text, after_text = "", False
    images: list[Image] = []
    for each in given:
        if isinstance(each, str):
            text += (joint if after_text else "") + each
            after_text = True
        else:
            images.append(msgspec.structs.replace(each, place=len(text)))
            after_text = False
    return text, tuple(images)


def moved(images: Iterable[Image], by: int) -> tuple[Image, ...]:
    """The images where so many characters more stand before their text."""
    return tuple(msgspec.structs.replace(image, place=image.place + by) for image in images)


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
    images: Images = ()


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
    # As llama.cpp spells and means them:
    typical_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_n_sigma: Annotated[float, Meta(ge=-1, le=100)] | None = None
    min_keep: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    dynatemp_range: Annotated[float, Meta(ge=0, le=10)] | None = None
    dynatemp_exponent: Annotated[float, Meta(ge=0, le=10)] | None = None
    xtc_probability: Annotated[float, Meta(ge=0, le=1)] | None = None
    xtc_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Meta(ge=0, le=100)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    dry_penalty_last_n: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    dry_sequence_breakers: Annotated[tuple[Label, ...], Meta(max_length=64)] | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Annotated[float, Meta(ge=0, le=100)] | None = None
    mirostat_eta: Annotated[float, Meta(ge=0, le=100)] | None = None
    adaptive_target: Annotated[float, Meta(ge=-1, le=1)] | None = None
    adaptive_decay: Annotated[float, Meta(ge=0, le=1)] | None = None
    samplers: Annotated[tuple[Label, ...], Meta(max_length=32)] | None = None
    """Which are applied, in this order."""
    ignore_eos: bool | None = None


class Beside(msgspec.Struct, frozen=True):
    """Another file that the model may look at."""

    name: Label
    text: Text


class Insert(msgspec.Struct, frozen=True):
    """What stands before and after the place where text is to be written, in a file; and other files.

    The request's prompt stands between `prefix` and that place.
    """

    prefix: Text = ""
    suffix: Text = ""
    files: Annotated[tuple[Beside, ...], Meta(max_length=256)] = ()


class Handling(msgspec.Struct, frozen=True):
    """How the engine goes about a request, for those who know it well. None leaves it to the engine."""

    cache: bool | None = None
    """Whether what an earlier prompt shares with this one is used again."""
    slot: Annotated[int, Meta(ge=-1, le=1 << 10)] | None = None
    adapters: Annotated[dict[int, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=64)] | None = None
    """Scales of the model's adapters by their number; those not named are off."""
    after_sampling: bool = False
    """Whether probabilities are told as the samplers left them, and as such, not as their logarithms."""
    keep: Annotated[int, Meta(ge=-1, le=1 << 24)] | None = None
    """Tokens of the prompt that stay when the context is full."""
    indent: Annotated[int, Meta(ge=0, le=1 << 16)] | None = None
    """Blanks with which a line begins at least, or the text ends."""
    milliseconds: Annotated[int, Meta(ge=-1, le=86_400_000)] | None = None
    """After which generation ends at the next line's end."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of generation. Either `messages` (chat) or `prompt` (raw text) is set."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[tuple[Message, ...], Meta(max_length=MAX_MESSAGES)] = ()
    prompt: Text | TokenIds | None = None
    images: Images = ()
    """Amid a `prompt` of text; those of `messages` are theirs."""
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
    logprobs: Annotated[int, Meta(ge=0, le=1024)] | None = None
    """None: not wanted. Otherwise this many alternatives for each token, beside the token itself."""
    n: Annotated[int, Meta(ge=1, le=16)] = 1
    think: bool | None = None
    """Whether a model that can think before it answers does so. None: as it was made."""
    template: Annotated[dict[Label, Any], Meta(max_length=64)] = {}
    """More that the model's chat template is told."""
    open_turn: bool = True
    """Whether the prompt ends where the assistant begins to speak."""
    insert: Insert | None = None
    handling: Handling = Handling()
    detail: bool = False
    """Whether the events of a raw prompt tell what the engine knows beside: tokens, settings, timings."""
    progress: bool = False
    """Whether they tell how far the prompt is read."""
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

    @property
    def seen(self) -> tuple[Image, ...]:
        """All images, in the order in which the model comes to them."""
        return (*(image for message in self.messages for image in message.images), *self.images)


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors wanted for texts."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    inputs: Annotated[tuple[Text | TokenIds, ...], Meta(min_length=1, max_length=2048)]
    """Each a text or its token ids."""
    per_token: bool = False
    """Whether the vectors of a model that does not pool are wanted, one for each token."""
    normalize: Annotated[int, Meta(ge=-1, le=64)] | None = None
    """With `per_token` the norm: 2 the Euclidean, 1 taxicab, 0 the greatest, another p, -1 none."""
    truncate: bool = False
    """Whether the ends of texts that do not fit the context may be cut off."""
    keep_alive: KeepAlive = None
    deadline: Annotated[float, Meta(gt=0, le=86400)] = 600.0


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Documents to be scored for how well they answer a query."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    query: Text
    documents: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=2048)]
    keep_alive: KeepAlive = None
    deadline: Annotated[float, Meta(gt=0, le=86400)] = 600.0
