"""LoRA adapters: base and adapter in llama.cpp compute what the merged model computes in torch."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freehold import convert
from freehold.convert import adapter_to_gguf, to_gguf
from freehold.core.errors import BadModelFile, FreeholdError, NotFound, Unsupported
from freehold.core.manifest import Lineage
from freehold.core.name import Name
from freehold.formats import modelfile
from freehold.formats.gguf import read_header
from freehold.serving import ready
from freehold.store import Store, creating
from freehold.store.check import fsck
from freehold.store.importing import import_folder, import_gguf
from tests.convert.folders import change_json
from tests.convert.libadapters import AdaptedLlama
from tests.convert.libllama import Llama
from tests.convert.torchmodels import logits, write_model

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

TOKENS = np.random.default_rng(5).integers(0, 512, 40).tolist()
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]


def write_adapter(base: Path, folder: Path, **settings: Any) -> np.ndarray:
    """An adapter with random matrices; the logits of the model merged with it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    known = {"r": 4, "lora_alpha": 6, "target_modules": [*ATTENTION, *FEED_FORWARD], "lora_dropout": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT calls what transformers renames
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **known | settings))
    noise = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_" in name:
                value.copy_(torch.randn(value.shape, generator=noise) * 0.15)
    adapted.save_pretrained(folder)
    with torch.no_grad():
        found: np.ndarray = adapted.merge_and_unload().eval()(torch.tensor([TOKENS])).logits[0].numpy()
    return found


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, another scale": ("Llama", {"use_rslora": True}),
    "llama, ranks and alphas of their own": (
        "Llama",
        {"rank_pattern": {"q_proj": 2, "model.layers.1.mlp.up_proj": 8}, "alpha_pattern": {"k_proj": 12}},
    ),
    "qwen 3": ("Qwen3", {}),
    "phi 3": ("Phi3", {"target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]}),
    "olmo 2, attention only": ("Olmo2", {"target_modules": ATTENTION}),
}


@pytest.mark.parametrize("case", CASES)
def test_base_and_adapter_compute_what_the_merged_model_does(case: str, tmp_path: Path) -> None:
    family, settings = CASES[case]
    write_model(tmp_path / "base", family, **({"head_dim": 16} if family == "Qwen3" else {}))
    expected = write_adapter(tmp_path / "base", tmp_path / "adapter", **settings)
    assert np.abs(expected - logits(tmp_path / "base", TOKENS)).max() > 0.3, "an adapter that does nothing"
    to_gguf(tmp_path / "base", tmp_path / "base.gguf", dtype="f32")
    adapter_to_gguf(tmp_path / "adapter", tmp_path / "base", tmp_path / "adapter.gguf", dtype="f32")
    with AdaptedLlama(tmp_path / "base.gguf", tmp_path / "adapter.gguf") as llama:
        assert np.abs(llama.logits(TOKENS) - expected).max() < 1e-3
    with Llama(tmp_path / "base.gguf") as llama:
        assert np.abs(llama.logits(TOKENS) - expected).max() > 0.3


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base and an adapter; tests change neither."""
    folder = tmp_path_factory.mktemp("adapted")
    write_model(folder / "base", "Llama", num_hidden_layers=1)
    write_adapter(folder / "base", folder / "adapter", target_modules=ATTENTION)
    return folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """A copy of the adapter, free to be changed."""
    (tmp_path / "adapter").mkdir()
    for file in (made / "adapter").iterdir():
        (tmp_path / "adapter" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "adapter"


def test_the_file_says_what_it_is(made: Path, adapter: Path, tmp_path: Path) -> None:
    adapter_to_gguf(adapter, made / "base", tmp_path / "out.gguf")
    header = read_header(tmp_path / "out.gguf")
    assert header.architecture == "llama"
    assert {key: header.metadata[key] for key in ("general.type", "adapter.type", "adapter.lora.alpha")} == {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 6.0,
    }
    assert len(header.tensors) == 8
    assert {tensor.name for tensor in header.tensors} >= {"blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"peft_type": "IA3"}, Unsupported, "IA3"),
        ({"use_dora": True}, Unsupported, "use_dora"),
        ({"modules_to_save": ["embed_tokens"]}, Unsupported, "modules_to_save"),
        ({"bias": "all"}, Unsupported, "bias"),
        ({"r": 5}, BadModelFile, "rank 4, not 5"),
        ({"lora_alpha": -1}, BadModelFile, "lora_alpha"),
        ({"lora_alpha": "much"}, BadModelFile, "lora_alpha"),
        ({"rank_pattern": {"(a+)+": 4}}, Unsupported, "rank_pattern"),
        ({"rank_pattern": 3}, BadModelFile, "rank_pattern"),
    ],
)
def test_adapters_that_a_gguf_file_cannot_hold_are_refused(
    changes: dict[str, object], error: type[FreeholdError], words: str, made: Path, adapter: Path, tmp_path: Path
) -> None:
    change_json(adapter / "adapter_config.json", **changes)
    with pytest.raises(error) as caught:
        adapter_to_gguf(adapter, made / "base", tmp_path / "out.gguf")
    assert words in caught.value.line()
    assert caught.value.remedy
    assert not (tmp_path / "out.gguf").exists()


def renamed(adapter: Path, before: str, after: str) -> None:
    """Change a tensor's name to one of the same length."""
    path = adapter / "adapter_model.safetensors"
    raw = path.read_bytes()
    assert len(before) == len(after)
    assert before.encode() in raw
    path.write_bytes(raw.replace(before.encode(), after.encode()))


@pytest.mark.parametrize(
    ("before", "after", "error", "words"),
    [
        ("layers.0.self_attn.q_proj.lora_A", "layers.7.self_attn.q_proj.lora_A", BadModelFile, "lacks one"),
        ("layers.0.self_attn.q_proj.", "layers.7.self_attn.q_proj.", Unsupported, "no matrix of the base"),
        ("q_proj.lora_A", "q_proj.lora_C", Unsupported, "lora_C"),
    ],
)
def test_tensors_without_a_place_are_named(
    before: str, after: str, error: type[FreeholdError], words: str, made: Path, adapter: Path, tmp_path: Path
) -> None:
    renamed(adapter, before, after)
    with pytest.raises(error, match=words):
        adapter_to_gguf(adapter, made / "base", tmp_path / "out.gguf")


def test_missing_files_are_named(made: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"config\.json"):
        adapter_to_gguf(adapter, tmp_path, tmp_path / "out.gguf")
    with pytest.raises(NotFound, match="adapter_config"):
        adapter_to_gguf(made / "base", made / "base", tmp_path / "out.gguf")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFound, match="adapter_model"):
        adapter_to_gguf(adapter, made / "base", tmp_path / "out.gguf")
    assert json.loads((adapter / "adapter_config.json").read_text())["peft_type"] == "LORA"


@pytest.mark.parametrize("base", ["folder", "converted"])
def test_a_modelfile_takes_the_folder_that_peft_wrote(base: str, tmp_path: Path) -> None:
    write_model(tmp_path / "base", "Llama")
    expected = write_adapter(tmp_path / "base", tmp_path / "adapter")
    with Store.open(tmp_path / "store") as store:
        named = "./base"
        if base == "converted":
            whole = import_folder(store, tmp_path / "base", Name.parse("whole"))
            to_gguf(tmp_path / "base", tmp_path / "base.gguf", dtype="f32")
            import_gguf(store, tmp_path / "base.gguf", Name.parse("gguf"), lineage=Lineage(base=whole.digest))
            named = "gguf"
        text = modelfile.parse(f"FROM {named}\nADAPTER ./adapter\nSYSTEM Be brief.")
        made = creating.create(store, Name.parse("tuned"), text, tmp_path, convert)
        assert [part.role for part in made.parts] == ["gguf", "system", "adapter"]
        gguf, adapter = (made.part(role) for role in ("gguf", "adapter"))
        assert gguf is not None
        assert adapter is not None
        with AdaptedLlama(store.path(gguf.digest), store.path(adapter.digest)) as model:
            found = model.logits(TOKENS)
        assert fsck(store, deep=True) == []
    # The adapter is F16, and where the base was a folder, so is the base.
    assert np.abs(found - expected).max() <= (0.02 if base == "converted" else 0.05)


def test_a_request_names_the_folder_that_peft_wrote_beside_its_base(tmp_path: Path) -> None:
    write_model(tmp_path / "base", "Llama")
    expected = write_adapter(tmp_path / "base", tmp_path / "adapter")
    with Store.open(tmp_path / "store") as store:
        import_folder(store, tmp_path / "base", Name.parse("base"))
        import_folder(store, tmp_path / "adapter", Name.parse("tuned"))
        source = ready.source(store, "base+tuned")
        converted = source.adapter_file()
        with AdaptedLlama(source.file().path, converted) as model:
            assert np.abs(model.logits(TOKENS) - expected).max() <= 0.05
        assert ready.source(store, "base+tuned").adapter_file() == converted, "it is converted once"
        assert fsck(store, deep=True) == []
