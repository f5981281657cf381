"""What the trainer is asked, what it says meanwhile, what it answers."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

Method = Literal["lora", "rslora", "dora", "full", "scratch"]
ADAPTERS = ("lora", "rslora", "dora")
"""Methods that train an adapter beside a frozen base."""
Objective = Literal["sft", "text", "dpo", "orpo", "kto", "grpo", "classify", "embed"]
Pooling = Literal["auto", "mean", "last"]
Dtype = Literal["auto", "f32", "bf16", "int8"]
Switch = Literal["auto", "on", "off"]
BaseDtype = Literal["stored", "nf4"]
Backend = Literal["freehold", "unsloth"]
LOG = "trainer.log"
"""Beside what the trainer writes: what it and the libraries in it say to people."""
Cut = Literal["", "asked", "time"]
"""Why training ended before its last step, early stopping aside: it was asked to, or its time was well over."""
Fraction = Annotated[float, Meta(ge=0, le=1)]


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a Llama model that is trained from scratch. Sizes are in units of one number or one token."""

    vocab: Annotated[int, Meta(ge=300, le=1 << 20)] = 4096
    hidden: Annotated[int, Meta(ge=32, le=1 << 16)] = 512
    layers: Annotated[int, Meta(ge=1, le=512)] = 5
    heads: Annotated[int, Meta(ge=1, le=1024)] = 8
    kv_heads: Annotated[int, Meta(ge=1, le=1024)] = 2
    intermediate: Annotated[int, Meta(ge=32, le=1 << 18)] = 768
    context: Annotated[int, Meta(ge=64, le=1 << 20)] = 1024


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """A model that grades answers."""

    name: str
    """What messages call it."""
    path: Path
    """A GGUF file."""
    rubric: Annotated[str, Meta(min_length=1, max_length=1 << 16)]
    """What a good answer has."""
    template: str = ""
    """A chat template in place of the file's own."""
    adapters: tuple[Path, ...] = ()


class TrainJob(msgspec.Struct, frozen=True, kw_only=True):
    """One training run. `out` also holds its checkpoints: the same job given again goes on from there."""

    out: Path
    train: Path
    """JSONL, one {"messages": [{"role", "content"}, …]} a line."""
    held_out: Path | None = None
    base: Path | None = None
    """Folder with config.json, safetensors and tokenizer.json; for method lora a GGUF file too, or a folder with one
    and a chat template for it. None only for method scratch."""
    method: Method = "lora"
    objective: Objective | Literal["tokens"] = "sft"
    """What is aimed at: answers, plain text, or answers that are preferred; or ids and weights as they are given."""
    beta: Annotated[float, Meta(ge=0, le=1000)] = 0.1
    """For preferences: how much it costs to leave the model that training began with; for orpo, what they count."""
    rewards: tuple[Annotated[str, Meta(max_length=4096)], ...] = ()
    """For grpo: what an answer is worth, by names of `tuning.rewards`; a file's path is absolute."""
    judge: Judge | None = None
    """For grpo: who grades, where `judge` is among the rewards."""
    group: Annotated[int, Meta(ge=2, le=1024)] = 8
    """For grpo: answers that are drawn for each prompt."""
    max_answer: Annotated[int, Meta(ge=1, le=1 << 16)] = 128
    """For grpo: tokens of an answer."""
    temperature: Annotated[float, Meta(gt=0, le=10)] = 1.0
    """For grpo: how freely answers are drawn."""
    scale: Annotated[float, Meta(gt=0, le=1000)] = 20.0
    """For embed: what cosines are multiplied by before they are compared; 1 / temperature."""
    pooling: Pooling = "auto"
    """For embed: which states of its tokens make a text's vector; auto takes what the base says, else their mean."""
    architecture: Architecture = Architecture()
    """Read only by method scratch."""
    rank: Annotated[int, Meta(ge=1, le=4096)] = 16
    alpha: Annotated[float, Meta(gt=0, le=65536)] = 32.0
    learning_rate: Annotated[float, Meta(gt=0, lt=1)] = 5e-4
    warmup: Fraction = 0.03
    """Share of the steps in which the learning rate rises."""
    weight_decay: Fraction = 0.0
    epochs: Annotated[float, Meta(gt=0, le=10_000)] = 3.0
    steps: Annotated[int, Meta(ge=0, le=100_000_000)] = 0
    """Optimiser steps; 0 takes `epochs`."""
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Time to fit: the steps are planned after a look at how long one takes. 0 takes `steps` or `epochs`."""
    batch_tokens: Annotated[int, Meta(ge=16, le=1 << 24)] = 4096
    """Tokens per optimiser step; short rows are packed side by side up to this."""
    batch: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    """Rows per optimiser step at most; 0 sets no limit but `batch_tokens`."""
    max_length: Annotated[int, Meta(ge=16, le=1 << 20)] = 1024
    """Tokens of one row; what is beyond is cut and counted."""
    prompt_weight: Fraction = 0.0
    """Loss weight of tokens that the assistant did not write."""
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    dtype: Dtype = "auto"
    """What is computed in. int8: as auto, but for products with a frozen base, on processors; auto does so itself where
    the base was rounded more than they are."""
    base_dtype: BaseDtype = "stored"
    """How a frozen base's projections are held: as its files have them, or in 4 bits. Read only where an adapter is
    trained."""
    checkpointing: Switch = "auto"
    """Whether layers are computed again for the backward pass instead of kept; auto does so when memory is short."""
    offload: Switch = "auto"
    """Whether what checkpointing keeps waits in the host's memory; auto does so only on a GPU that has too little."""
    evaluations: Annotated[int, Meta(ge=0, le=1000)] = 4
    """Times that the held-out loss is measured, the start and the end included."""
    patience: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Stop after this many measurements without a lower held-out loss, and take the weights of the lowest; 0 never."""
    backend: Backend = "freehold"
    """Who computes the model: Freehold's own decoder, or Unsloth where it is installed."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    checkpoint_seconds: Annotated[float, Meta(gt=0, le=86400)] = 60.0
    request: Path | None = None
    """A file that asks, from when it is there, to end after the step and to take what is learned by then."""
    probe: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """Seconds to try the job for, in place of doing it; the answer is a TrainPlan."""


class TrainPlan(msgspec.Struct, frozen=True, kw_only=True, tag="plan"):
    """What a job would take, by a try of its largest and some of its usual steps."""

    steps: int
    tokens: int
    """Of all steps."""
    seconds: float
    """Of training to the end."""
    tokens_per_second: float
    peak_rss: int
    """Bytes."""
    peak_private: int
    """Bytes that no file backs."""
    peak_device: int = 0
    """Bytes of a GPU's memory."""
    checkpointing: bool
    offload: bool = False
    dtype: str


class Answered(msgspec.Struct, frozen=True):
    """What a model that is trained says to a held-out prompt."""

    question: str
    """The last turn of the prompt, or its first characters; of a text, what is gone on with."""
    answer: str
    whole: bool = True
    """Whether the model ended it, and no limit did."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """A sign of life. Loss is nats per supervised token of this step; speed counts all tokens."""

    phase: str
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    seconds_left: float = 0.0
    note: str = ""
    gradient_norm: float = 0.0
    """Of all that is trained, before it is clipped."""
    memory: int = 0
    """Bytes that the trainer held at most so far; on a GPU, of the GPU's memory."""
    tokens: int = 0
    """Of all steps so far."""
    held_out_loss: float | None = None
    """Where it was just measured, after so many steps."""
    samples: tuple[Answered, ...] = ()
    """What the model said to the first held-out prompts then."""


class HeldOutLoss(msgspec.Struct, frozen=True):
    """Mean loss per supervised token over the held-out rows, before `step`."""

    step: int
    loss: float


class TrainResult(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """What came out. `model` is the adapter folder (PEFT format) for ADAPTERS, a model folder otherwise: a classifier's
    adapter is merged."""

    model: Path
    method: Method
    steps: int
    tokens: int
    supervised_tokens: int
    """Those of answers that count, however much."""
    seconds: float
    """Of training, over all resumptions."""
    step_seconds: float
    """Of its steps alone, without looks at held-out rows and checkpoints: what its speed is taken of."""
    losses: tuple[float, ...]
    """One per step."""
    gradient_norms: tuple[float, ...] = ()
    """One per step, before clipping."""
    held_out_losses: tuple[HeldOutLoss, ...]
    rows: int
    rows_cut: int
    """Rows longer than `max_length`, of which the end was cut."""
    rows_dropped: int
    """Rows in which nothing is left to learn after the cut."""
    dtype: str
    threads: int
    trainable: int
    """Parameters that were trained."""
    resumed: int
    """Times that the run went on from a checkpoint."""
    peak_rss: int
    """Bytes."""
    peak_private: int = 0
    """Bytes that no file backs: what the system cannot take back by dropping pages of the base."""
    peak_device: int = 0
    """Bytes of a GPU's memory."""
    checkpointing: bool = False
    offload: bool = False
    measured: dict[str, float] = {}
    """What else held-out rows say, by the objective: accuracy of a classifier, recall of an embedding model."""
    best_step: int = 0
    """The step whose weights were taken, where training stopped early."""
    cut: Cut = ""
    planned: int = 0
    """The steps that there were to be, where `cut` says why there are fewer."""
    library: str = ""
    """What computed the model in the place of Freehold's own decoder, and its version."""


class Said(msgspec.Struct, frozen=True):
    """What a served model answered to the question of one row."""

    answer: str
    whole: bool
    """Whether the model ended it, and no limit did."""


class CompareJob(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison of served answers with what the trainer's own decoder would say. Paths are of this machine."""

    out: Path
    """For its log."""
    model: Path
    """Folder of the trained model, or of the base of `adapter`."""
    adapter: Path | None = None
    rows: Path
    """JSONL, a chat a line: each ends with what was wanted."""
    said: tuple[Said, ...]
    """As many, in their order."""
    max_tokens: Annotated[int, Meta(ge=1, le=1 << 16)]
    """Of an answer."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0


class Agreed(msgspec.Struct, frozen=True):
    """One answer beside the trainer's."""

    same: bool
    gap: float = 0.0
    """Where they first differ: how much likelier the trainer's token was than the one served, in nats. Near 0 it is
    chance which of them rounding makes the likeliest."""


class Compared(msgspec.Struct, frozen=True, tag="compared"):
    """What came out, an entry for each answer."""

    answers: tuple[Agreed, ...]


class TrainError(msgspec.Struct, frozen=True, tag="error"):
    """How the child tells of a FreeholdError; `kind` is its class name."""

    kind: str
    message: str
    remedy: str


Report = Progress | TrainResult | TrainPlan | Compared | TrainError

Value = TypeVar("Value")


def encode(value: TrainJob | CompareJob | Report) -> bytes:
    """One line of JSON."""
    return msgspec.json.encode(value, enc_hook=str)


def decode(data: bytes, kind: type[Value]) -> Value:
    """The value of type `kind` that `encode` wrote."""
    return msgspec.json.decode(data, type=kind, dec_hook=_path)


def _path(kind: type, value: Any) -> Any:
    return kind(value)
