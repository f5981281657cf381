"""Converting a folder: what the file holds, that it is always the same, and what is refused."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from freehold.convert import to_gguf
from freehold.convert.decoder import rotated_rows
from freehold.convert.dtypes import STORED, to_f32
from freehold.core.errors import BadModelFile, DiskFull, FreeholdError, NotFound, Unsupported
from freehold.formats.gguf import GgufHeader, read_header
from tests.convert.folders import CHATML, change_json, config_json, tensors, write_folder, write_safetensors


def converted(folder: Path, out: Path, dtype: str = "f32") -> GgufHeader:
    to_gguf(folder, out, dtype=dtype)
    return read_header(out)


def values(header: GgufHeader, name: str) -> np.ndarray:
    tensor = next(tensor for tensor in header.tensors if tensor.name == name)
    start = header.data_offset + tensor.offset
    raw = header.path.read_bytes()[start : start + tensor.size]
    return to_f32(np.frombuffer(raw, STORED[tensor.type]).reshape(tensor.shape[::-1]), tensor.type)


def refused(folder: Path, out: Path, error: type[FreeholdError], *words: str, dtype: str = "f32") -> None:
    """The conversion raises, the message has the words, and nothing is left behind."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(error) as caught:
        to_gguf(folder, out, dtype=dtype)
    assert caught.value.remedy
    for word in words:
        assert word in caught.value.line()
    assert sorted(out.parent.iterdir()) == before


def test_the_file_says_what_the_config_says(folder: Path, tmp_path: Path) -> None:
    metadata = converted(folder, tmp_path / "out.gguf").metadata
    expected = {
        "general.architecture": "llama",
        "general.file_type": 0,
        "llama.vocab_size": 520,
        "llama.context_length": 256,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": CHATML,
    }
    assert {key: metadata.get(key) for key in expected} == expected
    assert metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)


def test_every_tensor_holds_its_source(folder: Path, tmp_path: Path) -> None:
    header, source = converted(folder, tmp_path / "out.gguf"), tensors(config_json())
    assert len(header.tensors) == len(source)
    np.testing.assert_array_equal(values(header, "token_embd.weight"), source["model.embed_tokens.weight"])
    np.testing.assert_array_equal(values(header, "output_norm.weight"), source["model.norm.weight"])
    layer = "model.layers.1."
    for name, module in (
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_down", "mlp.down_proj"),
    ):
        np.testing.assert_array_equal(values(header, f"blk.1.{name}.weight"), source[f"{layer}{module}.weight"])
    for name, module, heads in (("attn_q", "q_proj", 4), ("attn_k", "k_proj", 2)):
        expected = source[f"{layer}self_attn.{module}.weight"][rotated_rows(heads, 16)]
        np.testing.assert_array_equal(values(header, f"blk.1.{name}.weight"), expected)


def test_rotated_rows_interleave_the_halves_of_each_head() -> None:
    assert rotated_rows(2, 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert sorted(rotated_rows(4, 16)) == list(range(64))


@pytest.mark.parametrize(
    ("stored", "dtype", "expected"),
    [
        ("F32", "auto", "F16"),
        ("F16", "auto", "F16"),
        ("BF16", "auto", "BF16"),
        ("BF16", "f16", "F16"),
        ("BF16", "f32", "F32"),
        ("F16", "bf16", "BF16"),
    ],
)
def test_dtypes(stored: str, dtype: str, expected: str, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "model", dtype=stored)
    header = converted(tmp_path / "model", tmp_path / "out.gguf", dtype)
    assert header.quantization == expected
    assert {tensor.type for tensor in header.tensors if len(tensor.shape) > 1} == {expected}
    assert {tensor.type for tensor in header.tensors if len(tensor.shape) == 1} == {"F32"}
    found = values(header, "blk.0.ffn_up.weight")
    np.testing.assert_allclose(found, source["model.layers.0.mlp.up_proj.weight"], rtol=0.01, atol=1e-6)


def test_the_same_folder_gives_the_same_bytes_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "other-name")
    to_gguf(folder, tmp_path / "one.gguf")
    to_gguf(tmp_path / "elsewhere" / "other-name", tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_shards_give_the_same_bytes_as_one_file(model: Path, tmp_path: Path) -> None:
    to_gguf(model, tmp_path / "one.gguf")
    everything = tensors(config_json())
    (model / "model.safetensors").unlink()
    placed = {}
    for i, part in enumerate((sorted(everything)[::2], sorted(everything)[1::2])):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        write_safetensors(model / file, {name: everything[name] for name in part})
        placed |= dict.fromkeys(part, file)
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    to_gguf(model, tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


@pytest.mark.parametrize(("named", "number"), [("mean", 1), ("last", 3), ("other", None), (7, None)])
def test_a_folder_that_says_how_vectors_are_made(tmp_path: Path, named: object, number: int | None) -> None:
    write_folder(tmp_path / "model")
    to_gguf(tmp_path / "model", tmp_path / "plain.gguf")
    assert "llama.pooling_type" not in read_header(tmp_path / "plain.gguf").metadata
    change_json(tmp_path / "model" / "config.json", pooling_type=named)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert read_header(tmp_path / "model.gguf").metadata.get("llama.pooling_type") == number


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", architectures=["MistralForCausalLM"], sliding_window=100)
    assert converted(tmp_path / "model", tmp_path / "out.gguf").number("llama.context_length") == 100


@pytest.mark.parametrize(("change", "kept"), [(0.0, False), (1.0, True)])
def test_a_tied_head_is_dropped_only_when_it_equals_the_embedding(
    change: float, kept: bool, model: Path, tmp_path: Path
) -> None:
    source = tensors(config_json())
    source["lm_head.weight"] = source["model.embed_tokens.weight"].copy()
    source["lm_head.weight"][7, 3] += change
    write_safetensors(model / "model.safetensors", source)
    names = [tensor.name for tensor in converted(model, tmp_path / "out.gguf").tensors]
    assert ("output.weight" in names) is kept


def test_an_existing_file_is_replaced_and_survives_a_failure(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"before")
    change_json(model / "config.json", rms_norm_eps="tiny")
    refused(model, out, BadModelFile, "rms_norm_eps")
    assert out.read_bytes() == b"before"
    change_json(model / "config.json", rms_norm_eps=1e-6)
    assert converted(model, out).architecture == "llama"


def test_neither_torch_nor_transformers_is_needed(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import freehold.convert as c; assert 'numpy' not in sys.modules\n"
        "c.to_gguf(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'safetensors', 'xllamacpp'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "out.gguf")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_unknown_architectures_are_refused_with_what_is_supported(model: Path, tmp_path: Path) -> None:
    change_json(model / "config.json", architectures=["Qwen9ForCausalLM"])
    refused(model, tmp_path / "out.gguf", Unsupported, "Qwen9ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM")
    change_json(model / "config.json", architectures=[])
    refused(model, tmp_path / "out.gguf", BadModelFile, "architectures")


def test_a_missing_tensor_is_named(model: Path, tmp_path: Path) -> None:
    source = tensors(config_json())
    del source["model.layers.1.mlp.up_proj.weight"]
    write_safetensors(model / "model.safetensors", source)
    refused(model, tmp_path / "out.gguf", BadModelFile, "model.layers.1.mlp.up_proj.weight", "missing")


def test_an_untied_model_without_a_head_is_refused(model: Path, tmp_path: Path) -> None:
    change_json(model / "config.json", tie_word_embeddings=False)
    refused(model, tmp_path / "out.gguf", BadModelFile, "lm_head.weight")


def test_a_tensor_without_a_place_is_named(model: Path, tmp_path: Path) -> None:
    source = tensors(config_json())
    source["model.layers.0.self_attn.q_norm.weight"] = np.ones(16, np.float32)
    write_safetensors(model / "model.safetensors", source)
    refused(model, tmp_path / "out.gguf", Unsupported, "q_norm")
    del source["model.layers.0.self_attn.q_norm.weight"]
    source["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    write_safetensors(model / "model.safetensors", source)
    assert converted(model, tmp_path / "out.gguf").architecture == "llama"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"intermediate_size": 128}, BadModelFile, ["gate_proj", "[96, 64]", "[128, 64]"]),
        ({"vocab_size": 4096}, BadModelFile, ["embed_tokens", "[520, 64]"]),
        ({"num_hidden_layers": 2_000_000_000}, BadModelFile, ["model.layers.2."]),
        ({"hidden_size": -1}, BadModelFile, ["hidden_size"]),
        ({"rms_norm_eps": 1e300}, BadModelFile, ["rms_norm_eps"]),
        ({"hidden_size": True}, BadModelFile, ["hidden_size"]),
        ({"num_key_value_heads": 3}, BadModelFile, ["num_key_value_heads"]),
        ({"head_dim": 15}, BadModelFile, ["head_dim"]),
        ({"max_position_embeddings": "long"}, BadModelFile, ["max_position_embeddings"]),
        ({"rope_parameters": [1]}, BadModelFile, ["rope_parameters"]),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, Unsupported, ["dynamic"]),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, BadModelFile, ["low_freq_factor"]),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, Unsupported, ["partial rotary"]),
        ({"hidden_act": "gelu"}, Unsupported, ["gelu"]),
        ({"quantization_config": {"bits": 4}}, Unsupported, ["quantised"]),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    changes: dict[str, object], error: type[FreeholdError], words: list[str], model: Path, tmp_path: Path
) -> None:
    change_json(model / "config.json", **changes)
    refused(model, tmp_path / "out.gguf", error, *words)


def test_values_that_are_not_numbers_are_refused(model: Path, tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        source = tensors(config_json())
        source["model.layers.0.mlp.up_proj.weight"][2, 2] = value
        write_safetensors(model / "model.safetensors", source)
        refused(model, tmp_path / "out.gguf", BadModelFile, "model.layers.0.mlp.up_proj.weight", "NaN")


def test_values_too_large_for_f16_are_refused_for_f16_only(model: Path, tmp_path: Path) -> None:
    source = tensors(config_json())
    source["model.layers.0.mlp.up_proj.weight"][2, 2] = 70000.0
    write_safetensors(model / "model.safetensors", source)
    refused(model, tmp_path / "out.gguf", Unsupported, "mlp.up_proj", "bf16", dtype="f16")
    assert converted(model, tmp_path / "out.gguf", "bf16").quantization == "BF16"


def test_a_classifier_is_refused_with_what_asks_it(model: Path, tmp_path: Path) -> None:
    labels = {"0": "late", "1": "lost"}
    change_json(model / "config.json", architectures=["LlamaForSequenceClassification"], id2label=labels)
    with pytest.raises(Unsupported, match="classifier") as caught:
        to_gguf(model, tmp_path / "out.gguf", tools=tmp_path)
    assert "freehold classify" in caught.value.remedy


def test_other_number_formats_are_refused(model: Path, tmp_path: Path) -> None:
    raw = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(raw.replace(b'"F32"', b'"U32"'))
    refused(model, tmp_path / "out.gguf", Unsupported, "U32")


def test_a_truncated_weights_file_is_refused(model: Path, tmp_path: Path) -> None:
    raw = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(raw[:-10])
    refused(model, tmp_path / "out.gguf", BadModelFile, "model.safetensors")


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/passwd", "a\\b", "", "..", "model.bin", 7])
def test_an_index_that_points_outside_the_folder_is_refused(file: object, model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": file}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(model, tmp_path / "out.gguf", BadModelFile, "not a file name")


def test_an_index_that_names_the_wrong_file_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"model.other.weight": "model-00001-of-00001.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(model, tmp_path / "out.gguf", BadModelFile, "model.other.weight")


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", None, NotFound),
        ("config.json", b"{", BadModelFile),
        ("config.json", b"[" * 100_000, BadModelFile),
        ("config.json", b"[]", BadModelFile),
        ("tokenizer.json", None, NotFound),
        ("tokenizer.json", b"{}", BadModelFile),
        ("model.safetensors", None, NotFound),
        ("model.safetensors", b"", BadModelFile),
        ("generation_config.json", b"nonsense", BadModelFile),
        ("chat_template.jinja", b"\xff\xfe", BadModelFile),
    ],
)
def test_missing_and_broken_files(
    name: str, content: bytes | None, error: type[FreeholdError], model: Path, tmp_path: Path
) -> None:
    if content is None:
        (model / name).unlink()
    else:
        (model / name).write_bytes(content)
    refused(model, tmp_path / "out.gguf", error, name)


def test_an_adapter_is_told_apart(model: Path, tmp_path: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    refused(model, tmp_path / "out.gguf", Unsupported, "adapter")


def test_a_stale_index_beside_whole_weights_is_ignored(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"model.norm.weight": "gone.safetensors"}}')
    assert converted(model, tmp_path / "out.gguf").architecture == "llama"


def test_unknown_dtypes_and_folders_are_refused(model: Path, tmp_path: Path) -> None:
    refused(model, tmp_path / "out.gguf", Unsupported, "int3", "bf16", dtype="int3")
    with pytest.raises(NotFound, match="no such folder"):
        to_gguf(model, tmp_path / "nowhere" / "out.gguf")


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    """The limit on file size makes the kernel refuse the write in the middle, as a full disk does."""
    code = (
        "import resource, sys; from pathlib import Path; from freehold.convert import to_gguf\n"
        "from freehold.core.errors import DiskFull\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: to_gguf(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except DiskFull: print('full')"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "out.gguf")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "full\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_the_first_byte(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**6, 10**6, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refused(folder, tmp_path / "out.gguf", DiskFull, "needed")
