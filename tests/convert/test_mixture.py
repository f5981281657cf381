"""The choice of type for each tensor, against lists read off llama.cpp's rules by hand."""

from pathlib import Path

import pytest

from freehold.convert.mixture import FALLBACKS, category, fitting, layer_of, more_bits, quantizable, target_types
from freehold.convert.types import TYPES, quant_type
from freehold.core.errors import Unsupported
from freehold.formats.ggml import FILE_TYPES, TENSOR_TYPES
from freehold.formats.gguf import GgufHeader, TensorInfo
from freehold.formats.gguf_values import Value

# Layers of a 32-layer model where "more bits" applies, as the published Q4_K_M files of Llama 2 7B show them.
MORE_OF_32 = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def header(
    layers: int = 32,
    *,
    tied: bool = False,
    heads: int = 32,
    kv_heads: int = 32,
    columns: int = 4096,
    arch: str = "llama",
    **numbers: Value,
) -> GgufHeader:
    """A model of which only the header exists."""
    names = ["token_embd.weight"] + ([] if tied else ["output.weight"])
    names += [f"blk.{layer}.{matrix}.weight" for layer in reversed(range(layers)) for matrix in MATRICES]
    matrices = [TensorInfo(name, (columns, 256), "F16", 0, columns * 512) for name in names]
    vectors = [
        TensorInfo(f"blk.{layer}.attn_norm.weight", (columns,), "F32", 0, columns * 4) for layer in range(layers)
    ]
    metadata: dict[str, Value] = {
        "general.architecture": arch,
        f"{arch}.block_count": layers,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": kv_heads,
    } | {f"{arch}.{key}": value for key, value in numbers.items()}
    return GgufHeader(Path("model.gguf"), 3, metadata, [*matrices, *vectors], 32, 0, 0)


def by_layer(targets: dict[str, str], matrix: str) -> dict[int, str]:
    return {layer_of(name): found for name, found in targets.items() if f".{matrix}.weight" in name}


def layers_with(targets: dict[str, str], matrix: str, type_name: str) -> set[int]:
    return {layer for layer, found in by_layer(targets, matrix).items() if found == type_name}


EVERYWHERE = set(range(32))


@pytest.mark.parametrize(
    ("name", "matrix", "expected"),
    [
        ("Q4_K_M", "attn_v", {"Q6_K": MORE_OF_32, "Q4_K": EVERYWHERE - MORE_OF_32}),
        ("Q4_K_M", "ffn_down", {"Q6_K": MORE_OF_32, "Q4_K": EVERYWHERE - MORE_OF_32}),
        ("Q4_K_M", "attn_output", {"Q4_K": EVERYWHERE}),
        ("Q4_K_S", "attn_v", {"Q5_K": {0, 1, 2, 3}, "Q4_K": EVERYWHERE - {0, 1, 2, 3}}),
        ("Q4_K_S", "ffn_down", {"Q5_K": {0, 1, 2, 3}, "Q4_K": EVERYWHERE - {0, 1, 2, 3}}),
        ("Q5_K_M", "attn_v", {"Q6_K": MORE_OF_32, "Q5_K": EVERYWHERE - MORE_OF_32}),
        ("Q5_K_M", "ffn_down", {"Q6_K": MORE_OF_32, "Q5_K": EVERYWHERE - MORE_OF_32}),
        ("Q5_K_S", "attn_v", {"Q5_K": EVERYWHERE}),
        ("Q3_K_M", "attn_v", {"Q5_K": {0, 1}, "Q4_K": EVERYWHERE - {0, 1}}),
        ("Q3_K_M", "ffn_down", {"Q5_K": {0, 1}, "Q4_K": EVERYWHERE - {0, 1}}),
        ("Q3_K_M", "attn_output", {"Q4_K": EVERYWHERE}),
        ("Q3_K_L", "attn_v", {"Q5_K": EVERYWHERE}),
        ("Q3_K_L", "ffn_down", {"Q5_K": EVERYWHERE}),
        ("Q3_K_L", "attn_output", {"Q5_K": EVERYWHERE}),
        ("Q3_K_S", "attn_v", {"Q3_K": EVERYWHERE}),
        ("Q2_K", "attn_v", {"Q3_K": EVERYWHERE}),
        ("Q2_K", "ffn_down", {"Q3_K": EVERYWHERE}),
        ("Q2_K", "attn_output", {"Q3_K": EVERYWHERE}),
        ("Q2_K", "attn_q", {"Q2_K": EVERYWHERE}),
        ("Q2_K_S", "attn_v", {"Q2_K": EVERYWHERE}),
        ("Q2_K_S", "ffn_down", {"Q4_K": {0, 1, 2, 3}, "Q2_K": EVERYWHERE - {0, 1, 2, 3}}),
        ("Q2_K_S", "attn_output", {"Q2_K": EVERYWHERE}),
        ("Q6_K", "ffn_down", {"Q6_K": EVERYWHERE}),
        ("Q4_0", "ffn_down", {"Q4_0": EVERYWHERE}),
        ("F16", "ffn_down", {"F16": EVERYWHERE}),
    ],
)
def test_mixtures_of_a_32_layer_model(name: str, matrix: str, expected: dict[str, set[int]]) -> None:
    targets = target_types(header(), TYPES[name])
    assert {found: layers_with(targets, matrix, found) for found in set(by_layer(targets, matrix).values())} == expected


@pytest.mark.parametrize("name", TYPES)
def test_gate_up_and_query_take_the_default_and_vectors_stay(name: str) -> None:
    targets = target_types(header(), TYPES[name])
    for matrix in ("ffn_gate", "ffn_up", "attn_q", "attn_k"):
        assert set(by_layer(targets, matrix).values()) == {TYPES[name].tensor}
    assert set(by_layer(targets, "attn_norm").values()) == {"F32"}


@pytest.mark.parametrize(
    ("name", "tied", "embedding", "output"),
    [
        ("Q4_K_M", False, "Q4_K", "Q6_K"),
        ("Q4_K_M", True, "Q6_K", None),
        ("Q4_0", False, "Q4_0", "Q6_K"),
        ("Q4_0", True, "Q6_K", None),
        ("Q8_0", True, "Q8_0", None),
        ("Q2_K", False, "Q2_K", "Q6_K"),
        ("BF16", True, "BF16", None),
    ],
)
def test_embedding_and_output(name: str, tied: bool, embedding: str, output: str | None) -> None:
    targets = target_types(header(tied=tied), TYPES[name])
    assert targets["token_embd.weight"] == embedding
    assert targets.get("output.weight") == output


@pytest.mark.parametrize("name", ["Q2_K", "Q2_K_S"])
def test_grouped_queries_give_attn_v_more_bits_in_q2_k(name: str) -> None:
    targets = target_types(header(kv_heads=8), TYPES[name])
    assert set(by_layer(targets, "attn_v").values()) == {"Q4_K"}


def test_llama_70b_gives_attn_v_at_least_five_bits() -> None:
    found = by_layer(target_types(header(80, heads=64, kv_heads=8), TYPES["Q4_K_S"]), "attn_v")
    assert set(found.values()) == {"Q5_K"}
    found = by_layer(target_types(header(80, heads=64, kv_heads=64), TYPES["Q4_K_S"]), "attn_v")
    assert set(found.values()) == {"Q5_K", "Q4_K"}


def test_eight_experts() -> None:
    targets = target_types(header(expert_count=8), TYPES["Q4_K_M"])
    assert set(by_layer(targets, "attn_v").values()) == set(by_layer(targets, "attn_k").values()) == {"Q8_0"}
    assert set(by_layer(targets, "attn_output").values()) == {"Q5_K"}
    assert layers_with(targets, "ffn_down", "Q6_K") == MORE_OF_32


def test_falcon() -> None:
    targets = target_types(header(arch="falcon"), TYPES["Q4_K_M"])
    assert targets["output.weight"] == "Q8_0"
    assert layers_with(targets, "ffn_down", "Q6_K") == {0, 1}
    assert layers_with(targets, "ffn_down", "Q5_K") == MORE_OF_32 - {0, 1}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (256, {"Q2_K": "Q2_K", "Q4_K": "Q4_K", "Q6_K": "Q6_K", "Q8_0": "Q8_0"}),
        (576, {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "Q8_0": "Q8_0"}),
        (72, {"Q2_K": "F16", "Q4_K": "F16", "Q6_K": "F16", "Q8_0": "F16", "Q4_0": "F16", "F32": "F32"}),
    ],
)
def test_rows_that_a_type_cannot_hold(columns: int, expected: dict[str, str]) -> None:
    assert {name: fitting(name, columns) for name in expected} == expected


def test_a_narrow_model_falls_back_tensor_by_tensor() -> None:
    targets = target_types(header(columns=576, tied=True), TYPES["Q4_K_M"])
    assert targets["token_embd.weight"] == "Q8_0"
    assert set(targets.values()) == {"Q5_0", "Q8_0", "F32"}
    assert layers_with(targets, "ffn_down", "Q8_0") == MORE_OF_32


def test_the_order_is_that_of_llama_cpp() -> None:
    names = list(target_types(header(12), TYPES["Q8_0"]))
    assert names[:2] == ["output.weight", "token_embd.weight"]
    assert [layer_of(name) for name in names[2:]] == sorted(layer_of(name) for name in names[2:])
    assert names[2:5] == ["blk.0.attn_k.weight", "blk.0.attn_norm.weight", "blk.0.attn_output.weight"]


def test_heads_that_differ_by_layer_are_read_from_the_first() -> None:
    from freehold.formats.gguf_values import GgufArray

    kv_heads = GgufArray(5, 2, (4).to_bytes(4, "little") * 2)
    made = header(2, heads=32, **{"attention.head_count_kv": kv_heads})
    assert by_layer(target_types(made, TYPES["Q2_K"]), "attn_v")[0] == "Q4_K"


@pytest.mark.parametrize(
    ("name", "shape", "type_name", "expected"),
    [
        ("blk.0.ffn_up.weight", (64, 64), "F16", True),
        ("blk.0.ffn_up_exps.weight", (64, 64, 8), "BF16", True),
        ("blk.0.ffn_up.weight", (64,), "F32", False),
        ("blk.0.ffn_up.weight", (64, 1), "F32", False),
        ("blk.0.ffn_up.bias", (64, 64), "F32", False),
        ("blk.0.attn_q_norm.weight", (64, 64), "F32", False),
        ("blk.0.ffn_gate_inp.weight", (64, 8), "F32", False),
        ("blk.0.ssm_conv1d.weight", (4, 64), "F32", False),
        ("position_embd.weight", (64, 64), "F32", False),
        ("blk.0.ids.weight", (64, 64), "I32", False),
    ],
)
def test_what_is_quantised(name: str, shape: tuple[int, ...], type_name: str, expected: bool) -> None:
    assert quantizable(TensorInfo(name, shape, type_name, 0, 0)) is expected


def test_tables_agree_with_the_formats() -> None:
    blocks = {kind.name: kind for kind in TENSOR_TYPES.values()}
    for kind in TYPES.values():
        assert FILE_TYPES[kind.file_type] == kind.name
        assert blocks[kind.tensor].size * 8 / blocks[kind.tensor].block == kind.bits
    assert all(blocks[wide].block == 256 and blocks[narrow].block == 32 for wide, narrow in FALLBACKS.items())
    assert {layer for layer in range(32) if more_bits(layer, 32)} == MORE_OF_32
    assert category("blk.3.attn_qkv.weight") == "attn_v"


def test_type_names() -> None:
    assert quant_type("q4_k_m") is TYPES["Q4_K_M"]
    with pytest.raises(Unsupported, match="Q9") as caught:
        quant_type("Q9")
    assert "Q4_K_M" in caught.value.remedy
