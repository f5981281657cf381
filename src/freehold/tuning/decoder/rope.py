"""The angles by which positions turn queries and keys."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning.decoder.shape import Shape

_THETA = 10_000.0


class Rope:
    """Angles for positions. `frequencies` is [half of the turned numbers]; `factor` multiplies cosine and sine."""

    def __init__(self, frequencies: Tensor, factor: float = 1.0) -> None:
        self.frequencies, self.factor = frequencies, factor

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine for positions [tokens], each [tokens, 1, half]."""
        turned = positions[:, None].float() * self.frequencies.to(positions.device)
        return (turned.cos() * self.factor)[:, None], (turned.sin() * self.factor)[:, None]

    def divided(self, divisors: Tensor) -> "Rope":
        """The same with each frequency divided by a number, [half], as GGUF files say Llama 3's scaling."""
        return Rope(self.frequencies / divisors, self.factor)


def read_ropes(folder: Path, shape: Shape) -> dict[str, Rope]:
    """Those of a model folder, by the kinds of layers of `shape`. Raises BadModelFile, Unsupported."""
    config = json.loads((folder / "config.json").read_bytes())
    older = {**(config.get("rope_scaling") or {}), "rope_theta": config.get("rope_theta")}
    found = config.get("rope_parameters") or older
    kinds = {layer.kind for layer in shape.layers}
    return {kind: _rope(folder, shape, found.get(kind, found), kind if kind in found else None) for kind in kinds}


def _rope(folder: Path, shape: Shape, rope: dict[str, Any], layers: str | None) -> Rope:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        theta = float(rope.get("rope_theta") or _THETA)
        powers = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
        return Rope(1.0 / theta**powers)
    return Rope(*_scaled(folder, kind, layers))


def _scaled(folder: Path, kind: str, layers: str | None) -> tuple[Tensor, float]:
    """The frequencies of a stretched context, as transformers computes them."""
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if kind not in ("linear", "llama3", "yarn"):
        raise Unsupported(f"tuning does not know the rope scaling {kind!r}", "Use another base")
    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind](
            config, torch.device("cpu"), **({"layer_type": layers} if layers else {})
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModelFile(f"cannot read the rope scaling of {folder}: {error}", "Check config.json") from error
    return frequencies.float(), float(factor)
