"""Folders as people and programs leave them: odd but legal ones convert, spoilt ones are refused in one line."""

import copy
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from freehold.convert import ggml
from freehold.convert.adapter import CONFIG, FILE
from freehold.convert.adapter import prepare as prepare_adapter
from freehold.convert.config import Config
from freehold.convert.families import family
from freehold.convert.folder import prepare
from freehold.convert.plan import FamilyPlan, Metadata
from freehold.convert.tokenizer import tokenizer_metadata
from freehold.convert.weights import StoredTensor, Weights
from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from tests.convert.folders import (
    change_json,
    config_json,
    tensors,
    tokenizer_json,
    write_folder,
    write_json,
    write_safetensors,
)

ODD: Sequence[Any] = (None, True, -1, "x", [], [[]], {}, [{"a": []}])
SIZE = 520


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value, itself included; of a list its first two."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in list(inside)[:30]:
        yield from places(inner, (*at, key))


def put(value: Any, at: tuple[Any, ...], other: Any) -> Any:
    """A copy with `other` in a place."""
    if not at:
        return other
    made = copy.deepcopy(value)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = other
    return made


def refusal(path: Path, value: Any, look: Callable[[], object]) -> str:
    """What is said of this value in a file; nothing where it is taken. No error comes but ours."""
    write_json(path, value)
    try:
        look()
    except FreeholdError as error:
        return error.line()
    return ""


def spoil(path: Path, value: dict[str, Any], look: Callable[[], object], keys: Collection[str] = ()) -> int:
    """Put each odd value in each place of a JSON file, or below some keys; how often it was refused, in one line."""
    assert refusal(path, value, look) == ""
    spots = [at for at in places(value) if at and (not keys or at[0] in keys)]
    said = [refusal(path, put(value, at, other), look) for at in spots for other in ODD]
    assert not any("\n" in line or len(line) > 1000 for line in said)
    write_json(path, value)
    return sum(map(bool, said))


class Standing(Weights):
    """Stands for a folder that has every tensor that is asked for."""

    def expect(self, name: str, shape: Sequence[int]) -> StoredTensor:
        return StoredTensor(name, self.folder, "F32", tuple(shape), 0)


def planned(folder: Path) -> FamilyPlan:
    config = Config.read(folder / "config.json")
    return family(config).plan(config, Standing(folder, {}))


ROPE = {"rope_type": "default", "rope_theta": 1e4}
KINDS = {"full_attention": ROPE, "sliding_attention": ROPE}
LAYERS = ["sliding_attention", "full_attention"]
CONFIGS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {
        "rope_parameters": ROPE
        | {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        | {"original_max_position_embeddings": 64}
    },
    "Qwen3ForCausalLM": {
        "rope_parameters": ROPE | {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128}
    },
    "Phi3ForCausalLM": {
        "rope_parameters": ROPE | {"rope_type": "longrope", "long_factor": [1.0] * 8, "short_factor": [1.0] * 8}
    },
    "Olmo3ForCausalLM": {"rope_parameters": KINDS, "layer_types": LAYERS, "sliding_window": 8},
    "SmolLM3ForCausalLM": {"no_rope_layers": [1, 1], "no_rope_layer_interval": 4},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_with_anything_in_it_is_planned_or_refused(name: str, tmp_path: Path) -> None:
    config = config_json(architectures=[name], num_hidden_layers=2, **CONFIGS[name])
    keys = config if name == "LlamaForCausalLM" else CONFIGS[name]
    assert spoil(tmp_path / "config.json", config, lambda: planned(tmp_path), keys) >= 9


def test_a_tokenizer_with_anything_in_it_is_read_or_refused(model: Path) -> None:
    tokenizer = tokenizer_json()
    special = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    single = {"type": "TemplateProcessing", "single": [special, {"Sequence": {"id": "A"}}]}
    tokenizer["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, single]}
    tokenizer["added_tokens"] = [{"id": 0, "content": "<|endoftext|>", "special": True}]
    change_json(model / "tokenizer_config.json", bos_token="<|endoftext|>")
    kept = {key: tokenizer[key] for key in ("added_tokens", "pre_tokenizer", "post_processor", "normalizer")}
    # Its hundreds of tokens and merges are looked at alike.
    inner = {key: {"model": {**tokenizer["model"], key: 0}} for key in ("vocab", "merges", "type", "dropout")}
    path = model / "tokenizer.json"
    assert refusal(path, tokenizer, lambda: _read(model)) == ""
    values = [put(tokenizer, at, other) for at in places(kept) if at for other in ODD]
    values += [{**tokenizer, **put(part, ("model", key), other)} for key, part in inner.items() for other in ODD]
    said = [refusal(path, value, lambda: _read(model)) for value in values]
    assert not any("\n" in line for line in said)
    assert sum(map(bool, said)) > 100


def _read(folder: Path) -> Metadata:
    return tokenizer_metadata(folder, Config.read(folder / "config.json"), SIZE)


BESIDE: dict[str, dict[str, Any]] = {
    "tokenizer_config.json": {
        "eos_token": {"content": "<|im_end|>"},
        "chat_template": [{"name": "default", "template": "x"}, {"name": "tool_use", "template": "y"}],
    },
    "special_tokens_map.json": {"pad_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"},
    "generation_config.json": {"eos_token_id": [2, 0], "pad_token_id": 0},
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_makes_no_sense_beside_a_tokenizer_is_passed_over(name: str, model: Path) -> None:
    """These files say the same in several places, and the next place counts."""
    (model / "chat_template.jinja").unlink()

    def look() -> None:
        found = _read(model)
        ids = [value for key, value in found.items() if key.endswith("_token_id")]
        assert all(type(id_) is int and 0 <= id_ < SIZE for id_ in ids)
        assert "tokenizer.ggml.eos_token_id" in found
        assert isinstance(found.get("tokenizer.chat_template", ""), str)

    assert spoil(model / name, BESIDE[name], look) == 0
    assert "not a JSON object" in refusal(model / name, [], look)


@pytest.mark.parametrize(
    ("value", "template"),
    [
        ([{"name": [], "template": "x"}, {"name": "default", "template": "y"}], "y"),
        ([{"name": "default", "template": "x"}, {"name": "default", "template": "y"}], "y"),
        ([{"name": "rag", "template": "x"}], None),
        ([{"name": "default", "template": None}], None),
        ([5, "default"], None),
        ({"default": "x"}, None),
        ("", None),
    ],
)
def test_of_several_templates_the_default_counts(value: Any, template: str | None, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    change_json(model / "tokenizer_config.json", chat_template=value)
    assert _read(model).get("tokenizer.chat_template") == template


# Legal, and odd
@pytest.mark.parametrize("size", [515, 516, 640])
def test_a_vocabulary_is_padded_to_the_rows_of_the_model(size: int, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", vocab_size=size)
    found = tokenizer_metadata(tmp_path / "model", Config.read(tmp_path / "model" / "config.json"), size)
    tokens = found["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    assert (len(tokens), len(set(tokens)), tokens[-1]) == (size, size, f"[PAD{size - 1}]")
    assert prepare(tmp_path / "model").tensors[0].shape == (size, 64)


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", vocab_size=500)
    with pytest.raises(BadModelFile, match="has 500 rows"):
        prepare(tmp_path / "model")


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 5e5}),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0},
        ),
        ({"rope_scaling": None, "rope_theta": None}, {"rope_type": "default", "rope_theta": 1e4}),
        ({"rope_theta": 1e4, "rope_scaling": {"rope_type": "default"}}, {"rope_theta": 1e4}),
    ],
)
def test_positions_in_the_older_spelling_are_the_same(
    older: dict[str, Any], newer: dict[str, Any], tmp_path: Path
) -> None:
    write_json(tmp_path / "config.json", config_json(rope_parameters=newer))
    expected = planned(tmp_path).metadata
    write_json(tmp_path / "config.json", config_json(rope_parameters=None, **older))
    assert planned(tmp_path).metadata == expected


def test_what_a_config_leaves_out_is_as_transformers_has_it(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", config_json(head_dim=None, num_key_value_heads=None, attention_bias=None))
    found = planned(tmp_path).metadata
    assert (found["llama.attention.head_count_kv"], found["llama.attention.key_length"]) == (4, 16)
    write_json(tmp_path / "config.json", config_json(head_dim=None, hidden_size=66))
    with pytest.raises(BadModelFile, match="hidden_size is not a multiple"):
        planned(tmp_path)


def test_a_head_that_is_stored_although_tied_must_have_the_models_shape(model: Path) -> None:
    source = tensors(config_json())
    source["lm_head.weight"] = source["model.embed_tokens.weight"][:-1].copy()
    write_safetensors(model / "model.safetensors", source)
    with pytest.raises(BadModelFile, match=r"lm_head\.weight has shape \[519, 64\]"):
        prepare(model)


ROWS: dict[str, np.ndarray] = {
    "zeros": np.zeros(256, np.float32),
    "one value": np.full(256, 0.37, np.float32),
    "one that is not zero": np.eye(1, 256, 77, dtype=np.float32)[0],
    "tiny": np.linspace(-1e-30, 1e-30, 256, dtype=np.float32),
    "negative": np.linspace(-2, -1, 256, dtype=np.float32),
    "an outlier": np.concatenate([np.full(255, 0.01), [60.0]]).astype(np.float32),
}


@pytest.mark.parametrize("kind", sorted(ggml.ERRORS))
def test_rows_that_no_model_should_have_stay_finite_and_near(kind: str) -> None:
    """Pruned layers are zeros, and a block whose scale were no number would spoil every answer."""
    rows = np.stack(list(ROWS.values()))
    back = gguf.quants.dequantize(ggml.kernel(kind)(rows), gguf.GGMLQuantizationType[kind])
    assert np.isfinite(back).all()
    assert not back[0].any()
    for name, row, found in zip(ROWS, rows, back, strict=True):
        assert np.abs(found - row).max() <= np.abs(row).max() + 1e-6, name
    assert back[2].argmax() == 77


# Adapters
@pytest.fixture
def adapter(model: Path) -> Path:
    """A folder with an adapter for the first layer's queries; its base is `model`."""
    folder = model.parent / "adapter"
    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    matrices = {name.format("A"): np.ones((4, 64), np.float32), name.format("B"): np.ones((64, 4), np.float32)}
    write_safetensors(folder / FILE, matrices)
    patterns = {"alpha_pattern": {"q_proj": 8}, "rank_pattern": {"q_proj": 4}}
    write_json(folder / CONFIG, {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "bias": "none", **patterns})
    return folder


def test_an_adapters_config_with_anything_in_it_is_read_or_refused(adapter: Path, model: Path) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    assert spoil(adapter / CONFIG, config, lambda: prepare_adapter(adapter, model)) > 40


@pytest.mark.parametrize("begun", ["pissa", "pissa_niter_16", "PiSSA", "olora", "corda", "loftq", "lora_ga"])
def test_an_adapter_whose_beginning_changed_its_base_is_refused(begun: str, adapter: Path, model: Path) -> None:
    """On the base as it is, it would answer nonsense in silence."""
    change_json(adapter / CONFIG, init_lora_weights=begun)
    with pytest.raises(Unsupported, match=f"init_lora_weights {begun}") as caught:
        prepare_adapter(adapter, model)
    assert "path_initial_model_for_weight_conversion" in caught.value.remedy


@pytest.mark.parametrize("begun", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_other_beginnings_are_forgotten(begun: Any, adapter: Path, model: Path) -> None:
    expected = prepare_adapter(adapter, model).header
    change_json(adapter / CONFIG, init_lora_weights=begun)
    assert prepare_adapter(adapter, model).header == expected


def test_an_adapter_for_what_follows_some_tokens_is_refused(adapter: Path, model: Path) -> None:
    change_json(adapter / CONFIG, alora_invocation_tokens=[1, 2])
    with pytest.raises(Unsupported, match="alora_invocation_tokens"):
        prepare_adapter(adapter, model)
