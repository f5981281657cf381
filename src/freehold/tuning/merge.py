"""Base and adapter to one model, shard by shard: memory for the largest shard, not for the model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.convert.adapter import check_begun
from freehold.convert.weights import INDEX
from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning.launch import require_extra

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "base_model.model."
_FIRST, _MAGNITUDE = ".lora_A.weight", ".lora_magnitude_vector"
_CHANGES = (
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
)
"""Settings under which an adapter is more than pairs of matrices with one scale."""


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Write `base` with W + alpha / rank * B A in place of each adapted W; every other byte of the base is kept.
    What its index does not name is left out.

    Rows of an adapter with DoRA's magnitudes are brought to those lengths.

    Raises MissingExtra, BadModelFile when the adapter was made for another base, Unsupported for kinds other than LoRA.
    """
    require_extra()
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    from freehold.tuning.decoder.weights import indexed, shards
    from freehold.tuning.model import copy_companions

    config = config_of(adapter)
    check_begun(adapter / "adapter_config.json", config)
    scale = scale_of(config)
    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        raise BadModelFile(f"the adapter {adapter} has no {file.name}", "Save it as safetensors")
    found = shards(base)
    out.mkdir(parents=True, exist_ok=True)
    copy_companions(base, out)
    try:
        opened = safe_open(file, "pt")
    except (OSError, SafetensorError) as error:
        raise BadModelFile(f"cannot read {file}: {error}", "Save the adapter again") from error
    with opened as difference:
        unused = firsts_of(set(difference.keys()), dora=bool(config.get("use_dora")))
        _check_rank(difference, unused, config["r"])
        for shard in found:
            with safe_open(shard, "pt") as weights:
                tensors = {
                    name: _merged(name, weights.get_tensor(name), difference, scale, unused)
                    for name in weights.keys()  # noqa: SIM118
                }
            save_file(tensors, out / shard.name, metadata={"format": "pt"})
    if indexed(base):
        (out / INDEX).write_bytes((base / INDEX).read_bytes())
    if unused:
        raise BadModelFile(f"the base {base} lacks {len(unused)} layers of the adapter", "Use the base it was made for")


def firsts_of(keys: set[str], *, dora: bool) -> set[str]:
    """The A of every pair. Raises BadModelFile for what is no pair, and for magnitudes that are not one to a pair."""
    firsts = {key for key in keys if key.endswith(_FIRST)}
    pairs = firsts | {_beside(key, ".lora_B.weight") for key in firsts}
    wanted = pairs | {_beside(key, _MAGNITUDE) for key in firsts} if dora else pairs
    if keys != wanted:
        raise BadModelFile(f"{min(keys ^ wanted)} of the adapter is no half of a pair", "Check the adapter folder")
    return firsts


def _check_rank(difference: Any, firsts: set[str], rank: int) -> None:
    """The scale is by the rank that is said: with another, all of the adapter would be too strong or too weak."""
    for key in sorted(firsts):
        found = difference.get_slice(key).get_shape()[0]
        if found != rank:
            raise BadModelFile(f"the adapter says rank {rank}, and {key} has {found}", "Check adapter_config.json")


def _beside(key: str, suffix: str) -> str:
    """The name of another tensor of the same module."""
    return key.removesuffix(_FIRST) + suffix


def _merged(name: str, tensor: "Tensor", difference: Any, scale: float, unused: set[str]) -> "Tensor":
    key = f"{_PREFIX}{name.removesuffix('.weight')}{_FIRST}"
    if key not in unused:
        return tensor
    unused.discard(key)
    low, high = (difference.get_tensor(each).float() for each in (key, _beside(key, ".lora_B.weight")))
    if high.shape[1] != low.shape[0] or tensor.shape != (high.shape[0], low.shape[1]):
        raise BadModelFile(f"the adapter does not fit {name}", "Use the base it was made for")
    merged: Tensor = tensor.float() + scale * (high @ low)
    magnitude = _beside(key, _MAGNITUDE)
    if magnitude in difference.keys():  # noqa: SIM118
        merged = _brought(name, merged, difference.get_tensor(magnitude).float())
    return merged.to(tensor.dtype)


def _brought(name: str, rows: "Tensor", lengths: "Tensor") -> "Tensor":
    """Rows of the lengths that DoRA learned. A row of zeros stays one."""
    if lengths.shape != rows.shape[:1]:
        raise BadModelFile(f"the adapter does not fit {name}", "Use the base it was made for")
    made: Tensor = rows * (lengths / rows.norm(dim=1).clamp_min(1e-12))[:, None]
    return made


def config_of(adapter: Path) -> dict[str, Any]:
    """What adapter_config.json says. Raises BadModelFile."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"cannot read adapter_config.json of {adapter}: {error}", "Check the folder") from error
    if not isinstance(config, dict):
        raise BadModelFile(f"adapter_config.json of {adapter} is not a JSON object", "Check the folder")
    return config


def scale_of(config: dict[str, object]) -> float:
    """What multiplies an adapter's part, by its configuration. Raises BadModelFile, Unsupported."""
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or any(map(config.get, _CHANGES)):
        raise Unsupported("only plain LoRA adapters can be merged", "Merge it with the tool that made it")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise BadModelFile("adapter_config.json names no rank and alpha", "Check the adapter folder")
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
