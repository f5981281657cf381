"""Which type each tensor of a quantised file gets: llama.cpp's rules (src/llama-quant.cpp, llama_tensor_get_type).

Most matrices get the default type of the file type; the output matrix, attn_v, ffn_down
and attn_output, on which quality depends most, get more bits; rows that a type cannot hold get another type.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from freehold.convert.types import QuantType
from freehold.formats.ggml import TENSOR_TYPES
from freehold.formats.gguf import GgufHeader, TensorInfo
from freehold.formats.gguf_values import GgufArray

BLOCKS = {kind.name: kind.block for kind in TENSOR_TYPES.values()}
PLAIN = ("F32", "F16", "BF16")
FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""For rows that are no multiple of 256: a type with blocks of 32."""

_LAYER = re.compile(r"blk\.(\d{1,9})\.")
_CATEGORIES = (
    ("attn_qkv.weight", "attn_v"),
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)
# Small or delicate matrices of other architectures, which llama.cpp leaves as they are.
_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_tid2eid\.weight|altup|laurel|per_layer_model_proj|ssm_conv1d"
    r"|shortconv\.conv\.weight|indexer\.[kq]_proj\.weight|time_mix_(first|w[012]|v[012]|a[012]|g[12]|decay_w[12])\.weight"
    r"|time_mix_lerp_fused\.weight|attn_rel_b\.weight|\.position_embd|sam\.pos_embd|sam\.neck\.|sam\.net_|\.rel_pos"
    r"|\.patch_embd|\.patch_merger|a\.rvq\.codebook|mm\.a\.code_embd|^position_embd\.weight$|^token_types\.weight$"
)


class Model(NamedTuple):
    """What the rules ask about a model."""

    falcon: bool
    experts: int
    gqa: int
    """Query heads for each key-value head."""
    layers: int
    tied: bool
    """The token embedding is the output matrix too."""
    seventy_b: bool
    """Llama 70B, where 8 heads share an attn_v."""
    weighted: bool = False
    """An importance matrix goes with it."""


Rule = Callable[[int, int, Model], str | None]
"""From a tensor's place among those of its kind, their number, and the model: a type, or None for the default."""


def more_bits(index: int, count: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def _six_where_it_counts(index: int, count: int, model: Model) -> str | None:
    return "Q6_K" if more_bits(index, count) else None


def _down_q4_k_m(index: int, count: int, model: Model) -> str | None:
    if not model.falcon:
        return _six_where_it_counts(index, count, model)
    return "Q6_K" if index < count // 16 else "Q5_K" if more_bits(index, count) else None


def _down_q3_k_m(index: int, count: int, model: Model) -> str | None:
    if index < count // 16:
        return "Q5_K"
    return "Q4_K" if not model.falcon or more_bits(index, count) else None


def _down_q4_k_s(index: int, count: int, model: Model) -> str | None:
    return "Q5_K" if index < count // 8 and not model.falcon else None


def _safer(with_minimum: str) -> Rule:
    """In the first layers a type with a minimum: with an importance matrix, one without can go astray there."""
    return lambda index, count, model: with_minimum if model.weighted and index < count // 8 else None


RULES: dict[tuple[str, str], Rule] = {
    ("attn_v", "Q2_K"): lambda index, count, model: "Q4_K" if model.gqa >= 4 else "Q3_K",
    ("attn_v", "Q2_K_S"): lambda index, count, model: "Q4_K" if model.gqa >= 4 else None,
    ("attn_v", "Q3_K_M"): lambda index, count, model: "Q5_K" if index < 2 else "Q4_K",
    ("attn_v", "Q3_K_L"): lambda index, count, model: "Q5_K",
    ("attn_v", "Q4_K_S"): lambda index, count, model: "Q5_K" if index < 4 else None,
    ("attn_v", "Q4_K_M"): _six_where_it_counts,
    ("attn_v", "Q5_K_M"): _six_where_it_counts,
    ("ffn_down", "Q4_0"): _safer("Q4_1"),
    ("ffn_down", "Q5_0"): _safer("Q5_1"),
    ("ffn_down", "Q2_K"): lambda index, count, model: "Q3_K",
    ("ffn_down", "Q2_K_S"): lambda index, count, model: "Q4_K" if index < count // 8 else None,
    ("ffn_down", "Q3_K_M"): _down_q3_k_m,
    ("ffn_down", "Q3_K_L"): lambda index, count, model: "Q4_K" if model.falcon else "Q5_K",
    ("ffn_down", "Q4_K_S"): _down_q4_k_s,
    ("ffn_down", "Q4_K_M"): _down_q4_k_m,
    ("ffn_down", "Q5_K_M"): _six_where_it_counts,
    ("attn_output", "Q2_K"): lambda index, count, model: None if model.falcon else "Q3_K",
    ("attn_output", "Q3_K_M"): lambda index, count, model: None if model.falcon else "Q4_K",
    ("attn_output", "Q3_K_L"): lambda index, count, model: "Q4_K" if model.falcon else "Q5_K",
}
_EIGHT_EXPERTS_OUTPUT = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M")


def target_types(header: GgufHeader, kind: QuantType, *, weighted: bool = False) -> dict[str, str]:
    """The type of every tensor, by name, in the order in which llama.cpp writes them.

    `weighted` says that an importance matrix will be used: a few rules are others then.
    """
    tensors = sorted(header.tensors, key=lambda tensor: (layer_of(tensor.name), tensor.name))
    model = _model(header)._replace(weighted=weighted)
    counts = {"attn_v": sum(category(tensor.name) == "attn_v" for tensor in tensors), "ffn_down": model.layers}
    seen: dict[str, int] = {}
    targets: dict[str, str] = {}
    for tensor in tensors:
        if not quantizable(tensor):
            targets[tensor.name] = tensor.type
            continue
        found = category(tensor.name)
        index = seen.get(found, 0)
        seen[found] = index + 1
        if found == "ffn_down" and model.experts > 1:
            index = layer_of(tensor.name)
        chosen = _choose(found, kind, index, counts.get(found, 0), model, tensor.shape[0])
        targets[tensor.name] = fitting(chosen, tensor.shape[0])
    return targets


def layer_of(name: str) -> int:
    """The number in blk.N., -1 outside the layers."""
    found = _LAYER.match(name)
    return int(found[1]) if found else -1


def category(name: str) -> str:
    """The kind of tensor that rules are about."""
    if name == "output.weight":
        return "output"
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return "token_embd"
    return next((found for part, found in _CATEGORIES if part in name), "other")


def quantizable(tensor: TensorInfo) -> bool:
    """Matrices called weight are, but for norms, routers and other small ones."""
    if tensor.type not in PLAIN or not any(extent > 1 for extent in tensor.shape[1:]):
        return False
    return tensor.name.endswith("weight") and not _KEPT.search(tensor.name)


def fitting(type_name: str, columns: int) -> str:
    """The type itself if it can hold rows of `columns` weights, else the nearest that can."""
    if columns % BLOCKS[type_name] == 0:
        return type_name
    smaller = FALLBACKS.get(type_name, type_name)
    return smaller if columns % BLOCKS[smaller] == 0 else "F16"


def _choose(found: str, kind: QuantType, index: int, count: int, model: Model, columns: int) -> str:
    if kind.tensor in PLAIN:
        return kind.tensor
    if found == "output" or (found == "token_embd" and model.tied):
        wide = model.falcon or columns % BLOCKS[kind.tensor] or kind.tensor == "Q8_0"
        return "Q8_0" if wide else "Q6_K"
    if model.experts == 8:
        if found in ("attn_v", "attn_k"):
            return "Q8_0"
        if found == "attn_output" and not model.falcon:
            return "Q5_K" if kind.name in _EIGHT_EXPERTS_OUTPUT else kind.tensor
    rule = RULES.get((found, kind.name))
    chosen = (rule(index, count, model) if rule else None) or kind.tensor
    return "Q5_K" if found == "attn_v" and model.seventy_b and chosen in ("Q3_K", "Q4_K") else chosen


def _model(header: GgufHeader) -> Model:
    heads = _first(header, "attention.head_count")
    kv_heads = _first(header, "attention.head_count_kv", heads)
    layers = _first(header, "block_count")
    return Model(
        falcon=header.architecture == "falcon",
        experts=_first(header, "expert_count"),
        gqa=heads // kv_heads if kv_heads else 0,
        layers=layers,
        tied=all(tensor.name != "output.weight" for tensor in header.tensors),
        seventy_b=header.architecture == "llama" and layers == 80 and heads != kv_heads,
    )


def _first(header: GgufHeader, key: str, default: int = 0) -> int:
    """A number that some architectures give for each layer: then the first layer's."""
    value = header.metadata.get(f"{header.architecture}.{key}")
    if isinstance(value, GgufArray) and len(value) and isinstance(value[0], int):
        return int(value[0])
    return header.number(f"{{arch}}.{key}", default)
