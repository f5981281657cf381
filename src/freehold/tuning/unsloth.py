"""Unsloth's model in the place of Freehold's decoder: it makes hidden states, and all else stays the trainer's own.

Written for the interface of unsloth 2026.10.9; nothing of it is copied.
"""

import importlib
import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from freehold.core.errors import BadInput, MissingExtra, Unsupported
from freehold.tuning import lora
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.cache import Cache
from freehold.tuning.decoder.functions import Linear
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.decoder.weights import Matrix, Plain
from freehold.tuning.job import TrainJob
from freehold.tuning.memory import Keeping

_PACKAGE = "unsloth"
_OWN = 'Use backend = "freehold"'
_STATES = "UNSLOTH_RETURN_HIDDEN_STATES"
"""Where it is 1, models give hidden states in the place of logits."""
_ORDER = (
    "qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "gate_proj", "up_proj", "down_proj",
)  # fmt: skip
"""Projections of a layer, in the order in which our decoder has them: where adapters start follows from it."""
_LAYER = re.compile(r"\.layers\.(\d+)\.")
Saving = bool | Literal["unsloth"]
"""Whether layers are computed again for the backward pass; by `unsloth` their inputs wait in the host's memory."""


def prepare(room: Path) -> None:
    """Import it, which has to come before transformers. What it writes lies in `room`, and it asks no network.

    Raises Unsupported without a GPU, MissingExtra for an installation that lacks something.
    """
    os.environ |= {
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "UNSLOTH_AUTO_INSTALL": "0",
        "UNSLOTH_COMPILE_LOCATION": str(room / "unsloth_compiled_cache"),
        "TRITON_CACHE_DIR": str(room / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(room / "inductor"),
        "HF_HOME": str(room / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    room.mkdir(parents=True, exist_ok=True)
    try:
        importlib.import_module(_PACKAGE)
    except NotImplementedError as error:
        raise Unsupported(f"unsloth finds no GPU that it can train on: {_first(error)}", _OWN) from error
    except ImportError as error:
        raise MissingExtra(
            f"unsloth cannot be imported: {_first(error)}", "Run: pip install --upgrade unsloth"
        ) from error


def version() -> str:
    """Its name and version, for the record."""
    try:
        return f"{_PACKAGE} {metadata.version(_PACKAGE)}"
    except metadata.PackageNotFoundError:
        return _PACKAGE


def saving(job: TrainJob, keeping: Keeping) -> Saving:
    """What `keeping` is called there: unless offload is off, its own way of checkpointing moves inputs away too."""
    return "unsloth" if keeping.checkpointing and job.offload != "off" else keeping.checkpointing


def load(
    job: TrainJob, base: Path, compute: torch.dtype, *, saving: Saving, longest: int
) -> tuple["Unsloth", dict[str, nn.Parameter]]:
    """The base with adapters that start as ours do; and what is trained, by the names that ours has in its file.

    `longest` is the most tokens of a row. Raises BadInput for rows beyond the base's context, Unsupported, MissingExtra
    for 4 bits that it cannot make.
    """
    shape = Shape.read(base)
    if longest > shape.context:
        raise BadInput(
            f"a row has {longest} tokens and {base.name} is made for {shape.context}, which unsloth would stretch",
            f"Set max_length = {shape.context}",
        )
    if shape.hidden == shape.vocab:
        raise Unsupported("with as many tokens as hidden numbers, unsloth's states and logits look alike", _OWN)
    library = importlib.import_module(_PACKAGE).FastLanguageModel
    network, _ = library.from_pretrained(
        model_name=str(base.absolute()),
        max_seq_length=longest,
        dtype=compute,
        load_in_4bit=job.base_dtype == "nf4",
        use_gradient_checkpointing=saving,
        use_exact_model_name=True,
        local_files_only=True,
    )
    if job.base_dtype == "nf4" and not any(value.dtype == torch.uint8 for value in network.parameters()):
        raise MissingExtra("unsloth left the base as it is, without 4 bits", "Run: pip install bitsandbytes")
    network = library.get_peft_model(
        network,
        r=job.rank,
        target_modules=_projections(shape),
        lora_alpha=job.alpha,
        lora_dropout=0,
        bias="none",
        use_gradient_checkpointing=saving,
        # transformers takes no larger one; where adapters start is ours.
        random_state=job.seed % (1 << 32),
        use_rslora=job.method == "rslora",
        **({"use_dora": True} if job.method == "dora" else {}),
    )
    library.for_training(network, use_gradient_checkpointing=saving)
    trained = _trained(network, shape)
    _start(trained, job.rank, job.seed)
    return Unsloth(network, shape, compute), trained


class Unsloth:
    """Computes as our decoder does, in batches that are padded to the right: no token sees what is behind it."""

    linears: Mapping[str, Linear] = {}

    def __init__(self, network: Any, shape: Shape, compute: torch.dtype) -> None:
        # A tokenizer without a token for padding may have made the head longer.
        weight = network.get_output_embeddings().weight.detach()[: shape.vocab]
        self.network, self.shape, self.compute = network, shape, compute
        self.head: Matrix = Plain(weight)
        self.tells = True
        """Whether it gives hidden states when it is asked for them: not for every family, and not without a GPU."""

    def __call__(self, ids: Tensor, rows: Rows | Cache) -> Tensor:
        """The hidden states behind the last norm. ids [tokens] -> [tokens, hidden]."""
        if isinstance(rows, Cache):
            raise Unsupported("answers are not drawn with unsloth", _OWN)
        found = torch.cat([self._states(ids[group.padded]).flatten(0, 1)[group.flat] for group in rows.groups])
        if rows.order is not None:
            found = found[rows.order]
        return pad(found, (0, 0, 0, rows.spare)).to(self.compute)

    def _states(self, ids: Tensor) -> Tensor:
        """ids [rows, longest] -> [rows, longest, hidden]."""
        if self.network.training != torch.is_grad_enabled():
            # What its checkpointing puts aside while it trains, only a backward pass takes away.
            self.network.train(torch.is_grad_enabled())
        # Some of its own functions put it back.
        os.environ[_STATES] = "1"
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.compute == torch.bfloat16):
            if self.tells:
                found: Tensor = self.network(input_ids=ids, use_cache=False).logits
                self.tells = found.shape[-1] == self.shape.hidden
            if not self.tells:
                found = self.network.get_base_model().get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        return found


def _projections(shape: Shape) -> list[str]:
    fused = ("qkv_proj", "gate_up_proj")
    split = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    return [*(fused if shape.fused else split), "o_proj", "down_proj"]


def _trained(network: Any, shape: Shape) -> dict[str, nn.Parameter]:
    """What learns, layer by layer in our order. Raises Unsupported where it is not what was asked for."""
    found: dict[str, dict[str, nn.Parameter]] = {}
    for name, value in network.named_parameters():
        if value.requires_grad:
            plain = name.removeprefix(lora.PREFIX).removesuffix(".default.weight")
            path, _, part = plain.rpartition(".")
            found.setdefault(path, {})[part if part == lora.MAGNITUDE else f"{part}.weight"] = value
    if len(found) != len(shape.layers) * len(_projections(shape)) or any(_place(path) is None for path in found):
        raise Unsupported(f"unsloth adapts other parts of {shape.family} than was asked for", _OWN)
    ordered = sorted(found, key=lambda path: _place(path) or (0, 0))
    return {f"{path}.{part}": value for path in ordered for part, value in found[path].items()}


def _place(path: str) -> tuple[int, int] | None:
    """Where a projection stands in the decoder: the number of its layer, and its own in there."""
    layer, name = _LAYER.search(path), path.rpartition(".")[2]
    return (int(layer[1]), _ORDER.index(name)) if layer and name in _ORDER else None


@torch.no_grad()
def _start(trained: Mapping[str, nn.Parameter], rank: int, seed: int) -> None:
    """Let the adapters begin where ours do."""
    first, second = (f".{side}.weight" for side in lora.SIDES)
    firsts = {name.removesuffix(first): value for name, value in trained.items() if name.endswith(first)}
    for path, start in lora.starts({path: value.shape[1] for path, value in firsts.items()}, rank, seed):
        firsts[path].copy_(start)
        trained[path + second].zero_()


def _first(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
