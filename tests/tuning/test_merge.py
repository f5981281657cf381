"""Base and adapter to one model: what is changed, what stays byte for byte, and what is no adapter of this base."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from freehold.tuning.merge import merge
from tests.recipes.kit import write_adapter, write_base

Tensors = dict[str, torch.Tensor]
Q = "model.layers.0.self_attn.q_proj"
HALVES = f"base_model.model.{Q}"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A base of one layer, and an adapter for its queries."""
    return write_base(tmp_path / "base"), write_adapter(tmp_path / "adapter", 1)


def configure(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def change(adapter: Path, by: Callable[[Tensors], Tensors]) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name: value.contiguous() for name, value in by(load_file(path)).items()}, path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("changes", "scale"), [({}, 2.0), ({"lora_alpha": 1}, 0.5), ({"use_rslora": True}, 4 / 2**0.5)]
)
def test_a_difference_is_added_and_all_else_stays(
    folders: tuple[Path, Path], tmp_path: Path, dtype: torch.dtype, changes: dict[str, Any], scale: float
) -> None:
    base, adapter = folders
    configure(adapter, **changes)
    before = {name: value.to(dtype) for name, value in load_file(base / "model.safetensors").items()}
    save_file(before, base / "model.safetensors")
    merge(base, adapter, tmp_path / "out")
    after, halves = load_file(tmp_path / "out" / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    wanted = before[f"{Q}.weight"].float() + scale * (
        halves[f"{HALVES}.lora_B.weight"] @ halves[f"{HALVES}.lora_A.weight"]
    )
    assert torch.equal(after.pop(f"{Q}.weight"), wanted.to(dtype))
    assert {name: (value.dtype, value.tolist()) for name, value in after.items()} == {
        name: (dtype, before[name].tolist()) for name in after
    }
    assert len(after) == len(before) - 1
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()


def test_a_base_of_several_files_stays_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = folders
    merge(base, adapter, tmp_path / "whole")
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, base / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    merge(base, adapter, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text()) == index
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    for file, part in shards.items():
        found = load_file(tmp_path / "out" / file)
        assert sorted(found) == part
        assert all(torch.equal(found[name], whole[name]) for name in part)


def test_what_a_base_is_not_read_from_is_not_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = folders
    merge(base, adapter, tmp_path / "whole")
    weights, index = base / "model.safetensors", base / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(load_file(weights), "model-1.safetensors")}))
    (base / "consolidated.safetensors").write_bytes(weights.read_bytes())
    (base / "model-1.safetensors").write_bytes(b"of an older version")
    merge(base, adapter, tmp_path / "single")
    weights.rename(base / "model-1.safetensors")
    merge(base, adapter, tmp_path / "sharded")
    wanted = load_file(tmp_path / "whole" / "model.safetensors")
    for folder, files in (
        ("single", {"model.safetensors"}),
        ("sharded", {"model-1.safetensors", "model.safetensors.index.json"}),
    ):
        out = tmp_path / folder
        assert {path.name for path in out.iterdir() if "safetensors" in path.name} == files
        found = load_file(out / min(files))
        assert set(found) == set(wanted)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def deeper(tensors: Tensors) -> Tensors:
    return {name.replace("layers.0", "layers.7"): value for name, value in tensors.items()}


def of_the_head(tensors: Tensors) -> Tensors:
    """Of a base whose head is its embedding there is no matrix of that name."""
    return {name.replace(Q, "lm_head"): value for name, value in tensors.items()}


def of_the_embedding(tensors: Tensors) -> Tensors:
    return {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 9), **tensors}


def wider(tensors: Tensors) -> Tensors:
    return {name: value.repeat(1, 2) if ".lora_A." in name else value for name, value in tensors.items()}


def of_another_rank(tensors: Tensors) -> Tensors:
    return {name: value[:1] if ".lora_A." in name else value[:, :1] for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (deeper, "lacks 1 layers of the adapter"),
        (of_the_head, "lacks 1 layers of the adapter"),
        (of_the_embedding, "lora_embedding_A of the adapter is no half of a pair"),
        (lambda tensors: {name: each for name, each in tensors.items() if "lora_B" in name}, "is no half of a pair"),
        (lambda tensors: {name: each for name, each in tensors.items() if "lora_A" in name}, "is no half of a pair"),
        (wider, f"the adapter does not fit {Q}.weight"),
        (of_another_rank, f"the adapter says rank 2, and {HALVES}.lora_A.weight has 1"),
        (lambda tensors: {**tensors, f"{HALVES}.lora_magnitude_vector": torch.ones(64)}, "is no half of a pair"),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, by: Callable[[Tensors], Tensors], said: str
) -> None:
    base, adapter = folders
    change(adapter, by)
    with pytest.raises(BadModelFile, match=said):
        merge(base, adapter, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "only plain LoRA"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa changed the base's weights"),
        ({"init_lora_weights": "LoftQ"}, "init_lora_weights LoftQ"),
        ({"alora_invocation_tokens": [1]}, "only plain LoRA"),
        ({"use_qalora": True}, "only plain LoRA"),
        ({"bias": "all"}, "only plain LoRA"),
        ({"rank_pattern": {"q_proj": 4}}, "only plain LoRA"),
        ({"alpha_pattern": {"q_proj": 4}}, "only plain LoRA"),
        ({"modules_to_save": ["lm_head"]}, "only plain LoRA"),
        ({"fan_in_fan_out": True}, "only plain LoRA"),
        ({"layer_replication": [[0, 1]]}, "only plain LoRA"),
        ({"r": ...}, "names no rank"),
        ({"r": 0}, "names no rank"),
        ({"r": 2.5}, "names no rank"),
        ({"lora_alpha": "x"}, "names no rank and alpha"),
        ({"r": 4}, "says rank 4, and"),
    ],
)
def test_settings_under_which_it_is_more_or_less_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    base, adapter = folders
    configure(adapter, **changes)
    with pytest.raises((BadModelFile, Unsupported), match=said):
        merge(base, adapter, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("adapter_config.json", None, "cannot read adapter_config.json"),
        ("adapter_config.json", b"{", "cannot read adapter_config.json"),
        ("adapter_config.json", b"[" * 100_000, "cannot read adapter_config.json"),
        ("adapter_config.json", b"[]", "is not a JSON object"),
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors. Save it as safetensors"),
        ("adapter_model.safetensors", b"PK\x03\x04", "cannot read"),
        ("adapter_model.safetensors", b"", "cannot read"),
    ],
)
def test_a_folder_that_is_no_adapter_is_refused_in_a_line(
    folders: tuple[Path, Path], tmp_path: Path, file: str, content: bytes | None, said: str
) -> None:
    base, adapter = folders
    (adapter / file).unlink()
    if content is not None:
        (adapter / file).write_bytes(content)
    with pytest.raises(FreeholdError) as caught:
        merge(base, adapter, tmp_path / "out")
    assert type(caught.value) is BadModelFile
    assert said in caught.value.line()
