"""What the trainer is asked, what it says meanwhile, what it answers."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

Method = Literal["lora", "full", "scratch"]
Dtype = Literal["auto", "f32", "bf16"]
BaseDtype = Literal["stored", "nf4"]
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
    batch_tokens: Annotated[int, Meta(ge=16, le=1 << 24)] = 4096
    """Tokens per optimiser step; short rows are packed side by side up to this."""
    max_length: Annotated[int, Meta(ge=16, le=1 << 20)] = 1024
    """Tokens of one row; what is beyond is cut and counted."""
    prompt_weight: Fraction = 0.0
    """Loss weight of tokens that the assistant did not write."""
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    dtype: Dtype = "auto"
    base_dtype: BaseDtype = "stored"
    """How a frozen base's projections are held: as its files have them, or in 4 bits. Read only by method lora."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    checkpoint_seconds: Annotated[float, Meta(gt=0, le=86400)] = 60.0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """A sign of life. Loss is nats per supervised token of this step; speed counts all tokens."""

    phase: str
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    seconds_left: float = 0.0
    note: str = ""


class HeldOutLoss(msgspec.Struct, frozen=True):
    """Mean loss per supervised token over the held-out rows, before `step`."""

    step: int
    loss: float


class TrainResult(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """What came out. `model` is the adapter folder (PEFT format) for lora, a model folder otherwise."""

    model: Path
    method: Method
    steps: int
    tokens: int
    supervised_tokens: int
    seconds: float
    """Of training, over all resumptions."""
    losses: tuple[float, ...]
    """One per step."""
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


class TrainError(msgspec.Struct, frozen=True, tag="error"):
    """How the child tells of a FreeholdError; `kind` is its class name."""

    kind: str
    message: str
    remedy: str


Report = Progress | TrainResult | TrainError

Value = TypeVar("Value")


def encode(value: TrainJob | Report) -> bytes:
    """One line of JSON."""
    return msgspec.json.encode(value, enc_hook=str)


def decode(data: bytes, kind: type[Value]) -> Value:
    """The value of type `kind` that `encode` wrote."""
    return msgspec.json.decode(data, type=kind, dec_hook=_path)


def _path(kind: type, value: Any) -> Any:
    return kind(value)
