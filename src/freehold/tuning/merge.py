"""Base and adapter to one model, shard by shard: memory for the largest shard, not for the model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning.launch import require_extra

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "base_model.model."
_CHANGES = (
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
)
"""Settings under which an adapter is more than pairs of matrices with one scale."""


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Write `base` with W + alpha / rank * B A in place of each adapted W; every other byte of the base is kept.

    Raises MissingExtra, BadModelFile when the adapter was made for another base, Unsupported for kinds other than LoRA.
    """
    require_extra()
    from safetensors import safe_open
    from safetensors.torch import save_file

    from freehold.tuning.model import copy_companions

    config = json.loads((adapter / "adapter_config.json").read_bytes())
    scale = _scale(config)
    out.mkdir(parents=True, exist_ok=True)
    copy_companions(base, out)
    index = base / "model.safetensors.index.json"
    if index.exists():
        (out / index.name).write_bytes(index.read_bytes())
    with safe_open(adapter / "adapter_model.safetensors", "pt") as difference:
        unused = _adapted(set(difference.keys()))
        for shard in sorted(base.glob("*.safetensors")):
            with safe_open(shard, "pt") as weights:
                tensors = {
                    name: _merged(name, weights.get_tensor(name), difference, scale, unused)
                    for name in weights.keys()  # noqa: SIM118
                }
            save_file(tensors, out / shard.name, metadata={"format": "pt"})
    if unused:
        raise BadModelFile(f"the base {base} lacks {len(unused)} layers of the adapter", "Use the base it was made for")


def _adapted(keys: set[str]) -> set[str]:
    """The A of every pair. Raises BadModelFile for what is no pair."""
    firsts = {key for key in keys if key.endswith(".lora_A.weight")}
    pairs = firsts | {key.replace(".lora_A.", ".lora_B.") for key in firsts}
    if keys != pairs:
        raise BadModelFile(f"{min(keys ^ pairs)} of the adapter is no half of a pair", "Check the adapter folder")
    return firsts


def _merged(name: str, tensor: "Tensor", difference: Any, scale: float, unused: set[str]) -> "Tensor":
    key = f"{_PREFIX}{name.removesuffix('.weight')}.lora_A.weight"
    if key not in unused:
        return tensor
    unused.discard(key)
    low = difference.get_tensor(key).float()
    high = difference.get_tensor(key.replace(".lora_A.", ".lora_B.")).float()
    if high.shape[1] != low.shape[0] or tensor.shape != (high.shape[0], low.shape[1]):
        raise BadModelFile(f"the adapter does not fit {name}", "Use the base it was made for")
    merged: Tensor = (tensor.float() + scale * (high @ low)).to(tensor.dtype)
    return merged


def _scale(config: dict[str, object]) -> float:
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or any(map(config.get, _CHANGES)):
        raise Unsupported("only plain LoRA adapters can be merged", "Merge it with the tool that made it")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise BadModelFile("adapter_config.json names no rank and alpha", "Check the adapter folder")
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
