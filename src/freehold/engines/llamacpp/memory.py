"""What a GGUF model takes in memory, from its header alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from freehold.core.errors import BadModelFile
from freehold.engines.base import Fit
from freehold.formats.gguf_values import GgufArray
from freehold.formats.image_decoding import MOST_READ
from freehold.formats.projector import Projector

UBATCH = 512
"""Tokens that llama.cpp computes at once; its activations for these are the scratch memory."""
_CONTEXT_STEP = 256
"""llama.cpp rounds each slot's context up to a multiple of this."""
_PROCESS = 96 << 20
"""Python, the library and its tables, measured with a model of half a megabyte."""
_MOST = 1 << 20
"""Of a width or a number of blocks: more than any model has, and few enough to count."""
_CHANNELS = 3
"""Bytes of a pixel."""
_CACHE_BYTES = 2
"""Per number in the key-value cache: f16."""


def trained_context(metadata: Mapping[str, Any]) -> int:
    """Tokens of context that the model was trained with; 0 where its header does not tell."""
    return _number(metadata, "context_length")


def context_per_slot(metadata: Mapping[str, Any], wanted: int) -> int:
    """Tokens of context of one slot: what is wanted, cut to what the model was trained with, in llama.cpp's steps."""
    context = min(wanted, trained_context(metadata) or wanted)
    return -(-context // _CONTEXT_STEP) * _CONTEXT_STEP


def estimate(
    weights: int,
    metadata: Mapping[str, Any],
    context: int,
    slots: int,
    ubatch: int = UBATCH,
    projector: Projector | None = None,
) -> Fit:
    """Bytes that a file of `weights` bytes and `slots` slots of `context` tokens take, and a projector beside it.

    Raises BadModelFile when the header lacks a dimension.
    """
    width = _required(metadata, "embedding_length")
    blocks = _required(metadata, "block_count")
    feed_forward = max(_per_layer(metadata, "feed_forward_length", blocks))
    tokens = metadata.get("tokenizer.ggml.tokens")
    vocabulary = len(tokens) if isinstance(tokens, GgufArray | list) else 0
    scratch = 4 * ubatch * (vocabulary + 6 * width + 3 * feed_forward) + 4 * ubatch * context
    return Fit(
        weights=weights + (projector.size if projector else 0),
        cache=_cache(metadata, width, blocks) * context * slots,
        scratch=_PROCESS + scratch + (_seeing(projector, slots) if projector else 0),
        available=available(),
        context_length=context,
    )


def _seeing(projector: Projector, slots: int) -> int:
    """Bytes that images take beside the weights: encoding one, and in each slot one of the largest, in bytes and as it
    is made smaller.
    """
    return projector.scratch + 2 * _CHANNELS * MOST_READ * slots


def available(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that may be taken now: what the kernel says, or what is left under the control group's limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return free
    return min(free, max(0, limit - used + _reclaimable(cgroup / "memory.stat")))


def _reclaimable(path: Path) -> int:
    try:
        rows = dict(line.split() for line in path.read_text().splitlines())
        return int(rows["inactive_file"]) + int(rows["active_file"])
    except (OSError, ValueError, KeyError):
        return 0


def _cache(metadata: Mapping[str, Any], width: int, blocks: int) -> int:
    """Bytes of keys and values for one token."""
    heads = _per_layer(metadata, "attention.head_count", blocks)
    grouped = _field(metadata, "attention.head_count_kv") is not None
    shared = _per_layer(metadata, "attention.head_count_kv", blocks) if grouped else heads
    usual = width // max(1, *heads)
    key = _number(metadata, "attention.key_length") or usual
    value = _number(metadata, "attention.value_length") or usual
    return _CACHE_BYTES * sum(shared) * (key + value)


def _field(metadata: Mapping[str, Any], name: str) -> Any:
    return metadata.get(f"{metadata.get('general.architecture', '')}.{name}")


def _number(metadata: Mapping[str, Any], name: str) -> int:
    return _counted(_field(metadata, name))


def _counted(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _required(metadata: Mapping[str, Any], name: str) -> int:
    value = _number(metadata, name)
    if not 0 < value <= _MOST:
        raise BadModelFile(
            f"the model's header tells no usable {name}",
            "Get the file again, or convert the model anew",
        )
    return value


def _per_layer(metadata: Mapping[str, Any], name: str, blocks: int) -> Sequence[int]:
    """A field that is one number for all layers or one for each."""
    value = _field(metadata, name)
    if isinstance(value, GgufArray | list) and len(value) == blocks:
        return [_counted(item) for item in value]
    return [_counted(value)] * blocks
