"""What a base's folder says: templates, tokens that end answers, sizes; whatever else is written there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from freehold.core.errors import BadModelFile
from freehold.tuning import model
from freehold.tuning.decoder.weights import open_weights
from tests.recipes.kit import write_base
from tests.tiny import tokenizer

MANY = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]


def config(folder: Path, name: str = "tokenizer_config.json", **fields: Any) -> Path:
    (folder / name).write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize(
    ("said", "template"),
    [("A", "A"), (MANY, "D"), (MANY[:1], None), ([], None), (7, None), (None, None), ("", None)],
)
def test_the_template_of_a_base(tmp_path: Path, said: object, template: str | None) -> None:
    """Where there are several, the usual one, as for the server."""
    config(tmp_path, chat_template=said)
    assert model.chat_template(tmp_path, needed=False)[0] == (template or "")
    if template is None:
        with pytest.raises(BadModelFile, match="has no chat template"):
            model.chat_template(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ 'é' }}")
    assert model.chat_template(tmp_path)[0] == "{{ 'é' }}"


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(BadModelFile, match="is not UTF-8"):
        model.chat_template(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "7", ""])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(BadModelFile, match=r"tokenizer_config\.json"):
        model.chat_template(tmp_path)


def test_special_tokens_are_named_in_either_spelling(tmp_path: Path) -> None:
    config(tmp_path, eos_token={"content": "</s>", "lstrip": False}, bos_token="<s>", pad_token=None, unk_token=3)
    _, names = model.chat_template(tmp_path, needed=False)
    assert names == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "", "unk_token": ""}


@pytest.mark.parametrize(
    ("generation", "named", "ends"),
    [
        (2, "", {2}),
        ([1, 2], "", {1, 2}),
        ([1], "<|im_end|>", {1, 2}),
        (None, "<|im_end|>", {2}),
        (None, "<|endoftext|>", {0}),
        ("2", "<|im_end|>", {2}),
    ],
)
def test_tokens_that_end_an_answer(tmp_path: Path, generation: object, named: str, ends: set[int]) -> None:
    config(tmp_path, eos_token=named)
    config(tmp_path, "generation_config.json", eos_token_id=generation)
    assert model.ends(tmp_path, tokenizer()) == ends


@pytest.mark.parametrize("named", ["", "<nowhere>"])
def test_a_base_that_names_no_end_is_refused(tmp_path: Path, named: str) -> None:
    config(tmp_path, eos_token=named)
    with pytest.raises(BadModelFile, match="names no token that ends an answer"):
        model.ends(tmp_path, tokenizer())


@pytest.mark.parametrize("content", [None, b"{", b"{}", b"\xff"])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BadModelFile, match=r"cannot read .*tokenizer\.json"):
        model.tokenizer(tmp_path)


def test_sizes_are_of_all_files_of_weights(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors", "c.json"):
        (tmp_path / name).write_bytes(b"x" * 100)
    assert model.weights_size(tmp_path) == 200


def test_files_that_are_not_loaded_do_not_count(tmp_path: Path) -> None:
    """Some publishers put the same weights beside the shards once more, under names of their own."""
    for name in ("model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"):
        (tmp_path / name).write_bytes(b"x" * 100)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert model.weights_size(tmp_path) == 200
    (tmp_path / "model.safetensors").write_bytes(b"x" * 50)
    assert model.weights_size(tmp_path) == 50, "what transformers would load"


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(BadModelFile, match=r"index\.json names model-1\.safetensors, which is missing"):
        model.weights_size(tmp_path)


@pytest.mark.parametrize(
    "index", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "none"}}']
)
def test_an_index_of_weights_that_cannot_be_is_refused(tmp_path: Path, index: str) -> None:
    base = write_base(tmp_path / "base")
    (base / "model.safetensors").rename(base / "model-1.safetensors")
    (base / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadModelFile, match="cannot load the base"):
        open_weights(base)


def test_an_index_leads_to_no_file_outside(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadModelFile, match="cannot load the base"):
        open_weights(base)


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_embeddings_that_are_the_head_are_trained_and_kept_once(tmp_path: Path, twice: bool) -> None:
    """Some files hold them under both names; a second copy would not be learned."""
    base = write_base(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    if twice:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, base / "model.safetensors")
    decoder = model.load(base, torch.device("cpu"), torch.float32, full=True)
    assert decoder.head is decoder.embedding
    model.save(decoder.parameters, base, tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert set(saved) == set(tensors) - {"lm_head.weight"}
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (written["dtype"], written["tie_word_embeddings"]) == ("bfloat16", True)


def test_a_head_of_its_own_that_is_not_there_is_named(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    written = json.loads((base / "config.json").read_text())
    config(base, "config.json", **written | {"tie_word_embeddings": False})
    with pytest.raises(BadModelFile, match=r"lacks the tensor lm_head\.weight"):
        model.load(base, torch.device("cpu"), torch.float32, full=False)
