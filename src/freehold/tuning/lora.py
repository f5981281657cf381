"""LoRA: a low-rank difference beside each frozen linear layer, kept in PEFT's file format.

Source: Hu et al. 2021, arXiv 2106.09685.
"""

import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from freehold.core.errors import Unsupported

_PREFIX = "base_model.model."
"""PEFT's name for the wrapped model inside its checkpoint."""


class LoraLinear(nn.Module):
    """y = base(x) + alpha / rank * B A x. A starts random, B at zero, so training starts from the base exactly."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(start.to(base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """[…, in] -> […, out]."""
        low = nn.functional.linear(x, self.lora_A)
        out: Tensor = self.base(x) + nn.functional.linear(low, self.lora_B) * self.scale
        return out


def attach(model: nn.Module, rank: int, alpha: float, seed: int) -> list[str]:
    """Freeze `model` and put an adapter beside every linear layer of its decoder. Returns their paths."""
    model.requires_grad_(False)
    layers = {
        path: module for path, module in model.named_modules() if isinstance(module, nn.Linear) and ".layers." in path
    }
    if not layers:
        raise Unsupported("the base has no linear layers to adapt", "Use method = 'full'")
    generator = torch.Generator().manual_seed(seed)
    for path, layer in layers.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, LoraLinear(layer, rank, alpha, generator))
    return list(layers)


def save(model: nn.Module, paths: list[str], folder: Path, *, rank: int, alpha: float, base: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json as PEFT reads them."""
    from safetensors.torch import save_file

    tensors = {}
    for path in paths:
        layer = model.get_submodule(path)
        for side in ("lora_A", "lora_B"):
            tensors[f"{_PREFIX}{path}.{side}.weight"] = getattr(layer, side).detach().float().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
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
        "target_modules": sorted({path.rpartition(".")[2] for path in paths}),
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
