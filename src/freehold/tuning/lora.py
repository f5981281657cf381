"""LoRA: a low-rank difference beside each frozen projection, kept in PEFT's file format.

Source: Hu et al. 2021, arXiv 2106.09685; with the lengths of DoRA: Liu et al. 2024, arXiv 2402.09353.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning import files
from freehold.tuning.decoder.functions import Adapter, Linear, Magnitude
from freehold.tuning.merge import config_of, firsts_of, scale_of

FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""PEFT's name for the wrapped model inside its checkpoint."""
SIDES = ("lora_A", "lora_B")
MAGNITUDE = "lora_magnitude_vector"


def attach(
    linears: Mapping[str, Linear], rank: int, scale: float, seed: int, device: torch.device, *, dora: bool = False
) -> dict[str, nn.Parameter]:
    """Put an adapter beside each projection. Returns what is trained, by PEFT's names without their prefix.

    The first half starts random, the second at zero, so training starts from the base exactly. With `dora` the lengths
    of the rows are trained beside them.
    """
    if not linears:
        raise Unsupported("the base has no linear layers to adapt", "Use method = 'full'")
    trained: dict[str, nn.Parameter] = {}
    for path, start in starts({path: linear.matrix.shape[1] for path, linear in linears.items()}, rank, seed):
        linear = linears[path]
        rows, _ = linear.matrix.shape
        down, up = nn.Parameter(start.to(device)), nn.Parameter(torch.zeros(rows, rank, device=device))
        magnitude = Magnitude.of(linear.matrix) if dora else None
        linear.adapter = Adapter(down, up, scale, magnitude)
        trained |= {f"{path}.{side}.weight": half for side, half in zip(SIDES, (down, up), strict=True)}
        if magnitude is not None:
            trained[f"{path}.{MAGNITUDE}"] = magnitude.vector
    return trained


def starts(columns: Mapping[str, int], rank: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """The first half of each projection's adapter as it begins, [rank, columns]. Their order is part of the seed."""
    generator = torch.Generator().manual_seed(seed)
    for path, width in columns.items():
        bound = 1 / math.sqrt(width)
        yield path, torch.empty(rank, width).uniform_(-bound, bound, generator=generator)


def restore(linears: Mapping[str, Linear], folder: Path) -> None:
    """Put a saved adapter beside the projections that it was made for. Raises BadModelFile, Unsupported."""
    config = config_of(folder)
    tensors = {name.removeprefix(PREFIX): tensor.float() for name, tensor in load_file(folder / FILE).items()}
    dora = bool(config.get("use_dora"))
    for first in sorted(firsts_of({PREFIX + name for name in tensors}, dora=dora)):
        path = first.removeprefix(PREFIX).removesuffix(f".{SIDES[0]}.weight")
        if path not in linears:
            raise BadModelFile(f"the base has no {path}, which the adapter changes", "Use the base it was made for")
        linear = linears[path]
        magnitude = Magnitude.of(linear.matrix) if dora else None
        if magnitude is not None:
            magnitude.vector.data = tensors[f"{path}.{MAGNITUDE}"]
        down, up = (tensors[f"{path}.{side}.weight"] for side in SIDES)
        linear.adapter = Adapter(down, up, scale_of(config), magnitude)


def scale(method: str, rank: int, alpha: float) -> float:
    """What multiplies an adapter's part. rslora: Kalajdzievski 2023, arXiv 2312.03732."""
    return alpha / (math.sqrt(rank) if method == "rslora" else rank)


def save(trained: Mapping[str, nn.Parameter], folder: Path, *, method: str, rank: int, alpha: float, base: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json as PEFT reads them."""
    tensors = {f"{PREFIX}{name}": half.detach().float().cpu().contiguous() for name, half in trained.items()}
    folder.mkdir(parents=True, exist_ok=True)
    files.write(tensors, folder / FILE, {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted({name.split(".lora_")[0].rpartition(".")[2] for name in trained}),
        "modules_to_save": None,
        "use_rslora": method == "rslora",
        "use_dora": method == "dora",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
