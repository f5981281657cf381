"""What OpenAI's clients send for fine-tuning jobs.

https://platform.openai.com/docs/api-reference/fine-tuning
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from freehold.dialects.openai.batch_schema import Label, Pairs

Auto = Literal["auto"]


class Hyperparameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of supervised tuning; what is auto is chosen here."""

    n_epochs: Auto | Annotated[int, Meta(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Meta(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Meta(gt=0, le=1000)] = "auto"


class DpoHyperparameters(Hyperparameters, kw_only=True, forbid_unknown_fields=True):
    """Of tuning by preferences."""

    beta: Auto | Annotated[float, Meta(gt=0, le=2)] = "auto"


class Supervised(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Tuning on answers."""

    hyperparameters: Hyperparameters | None = None


class Dpo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Tuning on answers that are preferred to others."""

    hyperparameters: DpoHyperparameters | None = None


class Method(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How it is tuned."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: dict[str, Any] | None = None


class Integration(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where else it is to be told of."""

    type: Label
    wandb: dict[str, Any] | None = None


class JobRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/fine_tuning/jobs."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    training_file: Label
    validation_file: Label | None = None
    suffix: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2147483647)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    """OpenAI's older place for those of supervised tuning."""
    integrations: Annotated[list[Integration], Meta(max_length=5)] | None = None
    metadata: Pairs | None = None
