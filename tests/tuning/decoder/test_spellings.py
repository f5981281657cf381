"""Configurations as older versions of transformers wrote them, with what published files leave out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning import lora, model
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.merge import merge
from tests.convert.folders import change_json
from tests.convert.torchmodels import SMALL, save, write_model
from tests.tuning.decoder.test_families import CPU, GEMMA, LONG, YARN, config, our_loss, plain, plain_loss

LINEAR = {"rope_type": "linear", "factor": 8.0}
FACTORS = {key: LONG[key] for key in ("short_factor", "long_factor")}
PHI: dict[str, Any] = {"rope_theta": 1e4, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 24}
LISTED = ["sliding_attention", "full_attention", "sliding_attention"]
OLDER: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("Llama", {}, {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    "qwen 2 with windows unused": ("Qwen2", {}, {"rope_theta": 1e6, "use_sliding_window": None, "sliding_window": 8}),
    "qwen 2 with windows": (
        "Qwen2",
        {},
        {"rope_theta": 1e6, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "smollm 3": ("SmolLM3", {"num_hidden_layers": 5}, {"rope_theta": None, "no_rope_layers": None}),
    "smollm 3 with windows": (
        "SmolLM3",
        {},
        {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 8},
    ),
    "olmo 3": ("Olmo3", {"num_hidden_layers": 5}, {"sliding_window": 8, "rope_theta": 5e5}),
    "olmo 3 stretched": (
        "Olmo3",
        {},
        {"sliding_window": 8, "layer_types": LISTED, "rope_theta": 5e5, "rope_scaling": YARN},
    ),
    "phi 3": ("Phi3", {}, {**PHI, "rope_scaling": {"type": "longrope", **FACTORS}}),
    "phi 3 unscaled": ("Phi3", {}, {"rope_theta": 25e4, "partial_rotary_factor": None, "rms_norm_eps": None}),
    "gemma 2": (
        "Gemma2",
        GEMMA,
        {"rope_theta": 1e4, "hidden_activation": None, "hidden_act": "gelu", "attn_logit_softcapping": None},
    ),
    "gemma 3": (
        "Gemma3Text",
        {**GEMMA, "num_hidden_layers": 5},
        {"rope_theta": 1e6, "rope_local_base_freq": 2e4, "rope_scaling": LINEAR, "sliding_window_pattern": 2},
    ),
    "gemma 3 with little said": ("Gemma3Text", {**GEMMA, "num_hidden_layers": 7}, {"tie_word_embeddings": None}),
}
NEWER = ("rope_parameters", "layer_types", "original_max_position_embeddings", "sliding_window_pattern")


@pytest.mark.parametrize("case", OLDER)
def test_an_older_spelling_says_what_transformers_reads_in_it(case: str, tmp_path: Path) -> None:
    family, made, said = OLDER[case]
    tied = "gemma" in case
    write_model(tmp_path, family, **{"tie_word_embeddings": tied} | made)
    change_json(
        tmp_path / "config.json", **dict.fromkeys((*NEWER, "_sliding_window_pattern")) | {"pad_token_id": 0} | said
    )
    with torch.no_grad():
        wanted = plain_loss(plain(tmp_path))
        got = our_loss(model.load(tmp_path, CPU, torch.float32, full=False))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-3)


def test_a_scaling_by_its_first_name_is_the_same(tmp_path: Path) -> None:
    """transformers 5 does not read it, Phi-3's first files have it."""
    write_model(tmp_path, "Phi3")
    found = []
    for name in ("su", "longrope"):
        said = {**PHI, "rope_parameters": None, "rope_scaling": {"type": name, **FACTORS}}
        change_json(tmp_path / "config.json", **said)
        found.append(our_loss(model.load(tmp_path, CPU, torch.float32, full=False)))
    assert torch.equal(*found)


@pytest.mark.parametrize("changes", [{"attn_logit_softcapping": 5.0}, {"use_bidirectional_attention": True}])
def test_a_gemma_3_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="Gemma 3 that caps attention or looks ahead"):
        Shape.of(config(model_type="gemma3_text", **changes))


@pytest.mark.parametrize(
    "rope",
    [
        ["yarn"],
        {"rope_type": "linear", "factor": "much", "rope_theta": 1e4},
        3,
        {**LONG, "short_factor": [1.0]},
        {"rope_type": "longrope"},
    ],
)
def test_rope_settings_that_cannot_be_are_refused(tmp_path: Path, rope: object) -> None:
    write_model(tmp_path, "Llama")
    change_json(tmp_path / "config.json", rope_parameters=rope)
    with pytest.raises(BadModelFile, match="rope"):
        model.load(tmp_path, CPU, torch.float32, full=False)


def test_embeddings_grow_by_a_factor_of_their_own_type(tmp_path: Path) -> None:
    """The root of 96 is 9.798; bfloat16 has 9.8125."""
    from transformers import AutoModelForCausalLM

    write_model(tmp_path, "Gemma2", **GEMMA, hidden_size=96, tie_word_embeddings=True)
    ids = torch.arange(40)
    for dtype in (torch.float32, torch.bfloat16):
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        ours = model.load(tmp_path, CPU, dtype, full=False)
        assert torch.equal(ours.embed(ids), theirs.get_input_embeddings()(ids))


def write_seeing(folder: Path, *, older: bool) -> None:
    """A Gemma 3 that takes images too, as transformers 5 or 4 wrote it."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {**SMALL, **GEMMA, "tie_word_embeddings": True, "layer_types": LISTED}
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    made = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))
    save(folder, made, torch.Generator().manual_seed(0))
    if older:
        path = folder / "model.safetensors"
        save_file({spelt_older(name): tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})


def spelt_older(name: str) -> str:
    if name.startswith("model.language_model."):
        return name.replace("model.language_model.", "language_model.model.", 1)
    return name.removeprefix("model.")


@pytest.mark.parametrize("older", [False, True])
def test_of_a_model_that_sees_the_text_part_is_tuned(tmp_path: Path, older: bool) -> None:
    from transformers import AutoModelForImageTextToText

    write_seeing(tmp_path / "base", older=older)
    theirs = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "base", dtype=torch.float32, attn_implementation="eager"
    )
    ours = model.load(tmp_path / "base", CPU, torch.float32, full=False)
    with torch.no_grad():
        torch.testing.assert_close(our_loss(ours), plain_loss(theirs), rtol=1e-5, atol=1e-3)
    halves = lora.attach(ours.linears, 4, 2.0, 1, CPU)
    for half in halves.values():
        half.data.normal_(generator=torch.Generator().manual_seed(2)).mul_(0.1)
    lora.save(halves, tmp_path / "adapter", method="lora", rank=4, alpha=8.0, base="base")
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "merged", dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        torch.testing.assert_close(our_loss(ours), plain_loss(merged), rtol=1e-5, atol=1e-3)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "merged"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == len(ours.linears)
    assert not any("vision" in name for name in changed)


def test_all_of_a_model_that_sees_is_not_trained(tmp_path: Path) -> None:
    write_seeing(tmp_path, older=False)
    with pytest.raises(Unsupported, match="takes images too"):
        model.load(tmp_path, CPU, torch.float32, full=True)


def test_a_seeing_model_without_its_text_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    with pytest.raises(BadModelFile, match="text_config"):
        Shape.read(tmp_path)
