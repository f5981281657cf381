"""A PEFT LoRA adapter as a GGUF adapter: its matrices under the names, and in the row order, of the base's family.

The base is a folder of safetensors or the GGUF file of a model.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.convert.config import Config, read_json
from freehold.convert.dtypes import Floats, checked_f32
from freehold.convert.folder import Prepared, plan
from freehold.convert.origin import gguf_in, read
from freehold.convert.plan import FamilyPlan, Metadata, TensorPlan
from freehold.convert.weights import Weights
from freehold.core.errors import NotFound, Unsupported
from freehold.formats.reading import bad_file, shown

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_PLAIN = re.compile(r"[\w.]{1,200}", re.ASCII)
_MERGE = "Merge the adapter into its base model, and convert that"
_CHANGES = (
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
)
"""Settings under which the adapter is more than pairs of matrices."""
_MOVING = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin an adapter by which PEFT changes the base's own weights, too."""


def prepare(folder: Path, base: Path, dtype: str = "auto") -> Prepared:
    """Look at an adapter and at its base. Raises BadModelFile, Unsupported, NotFound."""
    if not (folder / CONFIG).exists():
        raise NotFound(f"{shown(folder, 400)} holds no {CONFIG}", "Name the folder of a PEFT adapter")
    config = Config(folder / CONFIG, read_json(folder / CONFIG, 16 << 20))
    _check(config)
    planned = _plan(base)
    weights = Weights.of_file(folder / FILE)
    alpha = config.number("lora_alpha", 8.0)
    places = {tensor.source.removesuffix(".weight"): tensor for tensor in planned.tensors if len(tensor.shape) == 2}
    tensors = [tensor for module in _modules(weights) for tensor in _pair(config, weights, module, places, alpha)]
    metadata: Metadata = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": alpha}
    return Prepared.of(planned.architecture, metadata, tensors, weights, dtype)


def _plan(base: Path) -> FamilyPlan:
    file = gguf_in(base)
    if file is not None:
        return read(file).plan
    if not (base / "config.json").exists():
        raise NotFound(
            f"{shown(base, 400)} holds no config.json", "Name the folder or the GGUF file of the base model: --base"
        )
    return plan(base)[0]


def check_begun(path: Path, values: Mapping[str, Any]) -> None:
    """Raises Unsupported for an adapter that says what it means on a base of other weights only."""
    begun = values.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_MOVING):
        raise Unsupported(
            f"{shown(path, 400)}: init_lora_weights {shown(begun)} changed the base's weights, too",
            "Save it with PEFT's path_initial_model_for_weight_conversion, or merge it there",
        )


def _check(config: Config) -> None:
    if (kind := config.text("peft_type", "")) != "LORA":
        raise Unsupported(f"{shown(config.path, 400)}: adapters of type {shown(kind)!r} are not supported", _MERGE)
    changed = next((key for key in _CHANGES if config.values.get(key)), None)
    if changed is None and config.text("bias", "none") != "none":
        changed = "bias"
    if changed is not None:
        raise Unsupported(f"{shown(config.path, 400)}: {changed} cannot be said in a GGUF adapter", _MERGE)
    check_begun(config.path, config.values)


def _modules(weights: Weights) -> list[str]:
    """The modules that the adapter changes. Raises Unsupported for any tensor that is not one of a pair."""
    found: dict[str, set[str]] = {}
    for name in weights.names():
        match = _NAME.fullmatch(name)
        if match is None:
            raise Unsupported(f"tensor {shown(name)} has no place in a GGUF adapter", _MERGE)
        found.setdefault(match[1], set()).add(match[2])
    lone = next((module for module, halves in found.items() if len(halves) < 2), None)
    if lone is not None or not found:
        raise bad_file(weights.folder / FILE, f"module {shown(lone or '')} lacks one of its two matrices")
    return sorted(found)


def _pair(
    config: Config, weights: Weights, module: str, places: dict[str, TensorPlan], alpha: float
) -> tuple[TensorPlan, TensorPlan]:
    """The two matrices of a module: A of [rank, inputs] and B of [outputs, rank], B scaled so that one alpha does."""
    place = places.get(module)
    if place is None:
        raise Unsupported(f"module {shown(module)} is no matrix of the base model", f"Check the base, or: {_MERGE}")
    first, second = (f"base_model.model.{module}.lora_{half}.weight" for half in "AB")
    shape = weights.get(first).shape
    if len(shape) != 2:
        raise bad_file(weights.folder / FILE, f"tensor {shown(first)} is no matrix")
    rank = shape[0]
    down = _values(weights, first, (rank, place.shape[1]))
    up = _values(weights, second, (place.shape[0], rank))
    if place.rows is not None:
        up = up[place.rows]
    times = _scale(config, module, rank) / (alpha / rank)
    return (
        TensorPlan(f"{place.name}.lora_a", down.shape, values=down),
        TensorPlan(f"{place.name}.lora_b", up.shape, values=up if times == 1.0 else up * up.dtype.type(times)),
    )


def _values(weights: Weights, name: str, shape: tuple[int, int]) -> Floats:
    stored = weights.expect(name, shape)
    return checked_f32(stored.array, stored.dtype, name)


def _scale(config: Config, module: str, rank: int) -> float:
    """What PEFT multiplies B A with."""
    alpha = _patterned(config, "alpha_pattern", module).number("value", config.number("lora_alpha", 8.0))
    given = _patterned(config, "rank_pattern", module).integer("value", config.integer("r", 8))
    if given != rank:
        raise bad_file(config.path, f"module {shown(module)} has rank {rank}, not {given}")
    return alpha / math.sqrt(rank) if config.flag("use_rslora", False) else alpha / rank


def _patterned(config: Config, key: str, module: str) -> Config:
    """The value of the first pattern that the module's name ends with, as PEFT takes them."""
    for pattern, value in config.section(key).values.items():
        if not _PLAIN.fullmatch(pattern):
            raise Unsupported(f"{key} has {shown(pattern)!r}, which is no module's name", _MERGE)
        if f".{module}".endswith(f".{pattern}"):
            return Config(config.path, {"value": value})
    return Config(config.path, {})
