"""The angles by which positions turn queries and keys."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.cache import Cache
from freehold.tuning.decoder.shape import FAMILIES, SLIDING, Family, Shape, text_part

_SCALED = ("linear", "llama3", "yarn")
_LONG = ("longrope", "su")


class Rope:
    """Angles for positions. `frequencies` is [half of the turned numbers]; `factor` multiplies cosine and sine.

    Rows of more than `original` tokens turn by the frequencies `long`, where there are such.
    """

    def __init__(
        self, frequencies: Tensor, factor: float = 1.0, *, long: Tensor | None = None, original: int = 0
    ) -> None:
        self.frequencies, self.factor, self.long, self.original = frequencies, factor, long, original

    def angles(self, rows: Rows | Cache) -> tuple[Tensor, Tensor]:
        """Cosine and sine for the positions of each token, each [tokens, 1, turned], as `rotate` takes them."""
        frequencies = self.frequencies.to(rows.positions.device)
        if self.long is not None:
            long = self.long.to(rows.positions.device)
            frequencies = torch.where(rows.lengths[:, None] > self.original, long, frequencies)
        turned = rows.positions[:, None].float() * frequencies
        cos, sin = ((made * self.factor)[:, None] for made in (turned.cos(), turned.sin()))
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)

    def divided(self, divisors: Tensor) -> "Rope":
        """The same with each frequency divided by a number, [half], as GGUF files say Llama 3's scaling."""
        return Rope(self.frequencies / divisors, self.factor)


def read_ropes(folder: Path, shape: Shape) -> dict[str, Rope]:
    """Those of a model folder, by the kinds of layers of `shape`. Raises BadModelFile, Unsupported."""
    path = folder / "config.json"
    try:
        config = text_part(json.loads(path.read_bytes()))
        settings = {kind: _settings(config, FAMILIES[shape.family], kind) for kind in shape.kinds}
        return {kind: _rope(folder, config, shape, *found) for kind, found in settings.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise BadModelFile(f"cannot read the rope settings of {path}: {error!r}", "Check config.json") from error


def _settings(config: dict[str, Any], family: Family, kind: str) -> tuple[dict[str, Any], str | None]:
    """What is said of layers of this kind, and its name where kinds have settings of their own.

    They are `rope_parameters` (transformers 5), else `rope_scaling` with `rope_theta` beside it.
    """
    found = config.get("rope_parameters") or {}
    key, theta = family.local if family.local and kind == SLIDING else ("rope_theta", family.theta)
    usual = {"rope_theta": theta, "partial_rotary_factor": config.get("partial_rotary_factor", 1.0)}
    if isinstance(found.get(kind), dict):
        return {**usual, **found[kind]}, kind
    if not found:
        # What stretches a context is not for layers that turn by angles of their own.
        scaling = {} if family.local and kind == SLIDING else config.get("rope_scaling") or {}
        found = {"rope_theta": config.get(key) or theta, **scaling}
    return {**usual, **found}, kind if family.local else None


def _rope(folder: Path, config: dict[str, Any], shape: Shape, rope: dict[str, Any], layers: str | None) -> Rope:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind in _LONG:
        return _long(config, shape, rope)
    if kind != "default":
        return _scaled(folder, kind, layers)
    turned = _turned(shape, rope)
    powers = torch.arange(0, turned, 2, dtype=torch.float32) / turned
    return Rope(1.0 / float(rope["rope_theta"]) ** powers)


def _turned(shape: Shape, rope: dict[str, Any]) -> int:
    """Numbers of a head that positions turn."""
    part = float(rope["partial_rotary_factor"]) if FAMILIES[shape.family].partial else 1.0
    return int(shape.head_dim * part)


def _long(config: dict[str, Any], shape: Shape, rope: dict[str, Any]) -> Rope:
    """Two sets of frequencies, for rows as long as in training and for longer ones.

    Source: Ding et al. 2024, arXiv 2402.13753; the factor as transformers has it.
    """
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    original = int(original or shape.context)
    stretch = float(rope.get("factor") or shape.context / original)
    usual = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1.0 else 1.0
    turned = _turned(shape, rope)
    plain = float(rope["rope_theta"]) ** (torch.arange(0, turned, 2).float() / turned)
    short, long = (torch.tensor(rope[f"{name}_factor"], dtype=torch.float32) for name in ("short", "long"))
    if not short.shape == long.shape == plain.shape:
        raise ValueError(f"{len(plain)} frequencies, {len(short)} short and {len(long)} long factors")
    factor = float(rope.get("attention_factor") or usual)
    return Rope(1.0 / (short * plain), factor, long=1.0 / (long * plain), original=original)


def _scaled(folder: Path, kind: str, layers: str | None) -> Rope:
    """The frequencies of a stretched context, as transformers computes them."""
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if kind not in _SCALED:
        raise Unsupported(f"tuning does not know the rope scaling {kind!r}", "Use another base")
    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    frequencies, factor = ROPE_INIT_FUNCTIONS[kind](
        config, torch.device("cpu"), **({"layer_type": layers} if layers else {})
    )
    return Rope(frequencies.float(), float(factor))
