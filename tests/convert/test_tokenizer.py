"""Tokenizers: what a file gets, the same ids in llama.cpp as in tokenizers, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from freehold.convert import to_gguf
from freehold.convert.config import Config
from freehold.convert.plan import Metadata
from freehold.convert.tokenizer import tokenizer_metadata
from freehold.convert.tokentypes import CONTROL, NORMAL, UNUSED, USER_DEFINED
from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from tests.convert.folders import (
    SPECIAL,
    SPLITS,
    TORTURE,
    change_json,
    config_json,
    tokenizer_json,
    write_folder,
    write_json,
)
from tests.convert.libllama import Llama

SIZE = 520


def metadata(folder: Path) -> Metadata:
    return tokenizer_metadata(folder, Config.read(folder / "config.json"), SIZE)


def change_tokenizer(folder: Path, key: str, value: Any) -> None:
    """Set a key of tokenizer.json; `model.x` reaches into the model."""
    described = json.loads((folder / "tokenizer.json").read_text())
    inner = described["model"] if key.startswith("model.") else described
    inner[key.removeprefix("model.")] = value
    write_json(folder / "tokenizer.json", described)


def bos(token: str = "<|endoftext|>", before: bool = True) -> dict[str, Any]:
    """A post-processor that puts a token before or after every text."""
    special, sequence = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    single = [special, sequence] if before else [sequence, special]
    tokens = {token: {"id": token, "ids": [0], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}


@pytest.mark.parametrize("pre", SPLITS)
def test_llama_cpp_cuts_text_as_tokenizers_does(pre: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", pre=pre)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    reference = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    chat = "".join(f"<|im_start|>user\n{line}<|im_end|>\n" for line in TORTURE.splitlines())
    texts = [TORTURE, chat, *TORTURE.splitlines(), *(TORTURE[i : i + 37] for i in range(0, len(TORTURE), 5))]
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        for text in texts:
            assert llama.tokenize(text) == reference.encode(text, add_special_tokens=False).ids, ascii(text)


def test_every_character_of_unicode_15_is_cut_the_same_way(tmp_path: Path) -> None:
    """Letters and digits that came with Unicode 16 are unknown to llama.cpp's tables: none below U+A7CB."""
    write_folder(tmp_path / "model")
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    reference = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        for start in range(1, 0xA7CB, 64):
            text = "".join(f"a{chr(point)}1{chr(point)}! {chr(point)}b" for point in range(start, start + 64))
            assert llama.tokenize(text) == reference.encode(text, add_special_tokens=False).ids, hex(start)


def test_llama_cpp_ends_at_the_tokens_that_the_model_ends_with(folder: Path, tmp_path: Path) -> None:
    to_gguf(folder, tmp_path / "model.gguf")
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        assert [token for token in range(SIZE) if llama.ends(token)] == [0, 2]


def test_types_and_padding(model: Path) -> None:
    change_json(model / "tokenizer.json", added_tokens=None)
    described = json.loads((model / "tokenizer.json").read_text())
    described["added_tokens"] = [
        *({"id": i, "content": token, "special": True} for i, token in enumerate(SPECIAL)),
        {"id": 515, "content": "<note>", "special": False},
    ]
    write_json(model / "tokenizer.json", described)
    found = metadata(model)
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    assert len(tokens) == len(types) == SIZE
    assert tokens[:3] == list(SPECIAL)
    assert types[:3] == [CONTROL] * 3
    assert (tokens[515], types[515]) == ("<note>", USER_DEFINED)
    assert (tokens[519], types[519]) == ("[PAD519]", UNUSED)
    assert types[100] == NORMAL


def test_an_added_token_that_another_one_replaces_is_unused(model: Path) -> None:
    described = json.loads((model / "tokenizer.json").read_text())
    described["added_tokens"] += [{"id": 9999, "content": "x!"}, {"id": 516, "content": "x!"}]
    write_json(model / "tokenizer.json", described)
    tokens = metadata(model)["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    assert tokens[516] == "x!"


def test_a_half_character_is_refused(model: Path) -> None:
    text = (model / "tokenizer.json").read_text()
    (model / "tokenizer.json").write_text(text.replace('"<|im_end|>"', '"\\ud800"'))
    with pytest.raises(BadModelFile):
        metadata(model)


def test_merges_are_read_in_both_spellings(model: Path) -> None:
    pairs = tokenizer_json()["model"]["merges"]
    assert isinstance(pairs[0], list)
    found = metadata(model)["tokenizer.ggml.merges"]
    change_tokenizer(model, "model.merges", [" ".join(pair) for pair in pairs])
    assert metadata(model)["tokenizer.ggml.merges"] == found == [" ".join(pair) for pair in pairs]


def test_bos_and_eos_follow_the_post_processor(model: Path, tmp_path: Path) -> None:
    change_json(model / "tokenizer_config.json", bos_token={"content": "<|endoftext|>", "special": True})
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    change_tokenizer(model, "post_processor", {"type": "Sequence", "processors": [level, bos()]})
    found = metadata(model)
    assert found["tokenizer.ggml.bos_token_id"] == 0
    assert (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.add_eos_token"]) == (True, False)
    to_gguf(model, tmp_path / "model.gguf")
    reference = Tokenizer.from_file(str(model / "tokenizer.json"))
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        assert llama.tokenize("Hello", add_special=True) == reference.encode("Hello").ids
    change_tokenizer(model, "post_processor", bos("<|im_end|>", before=False))
    found = metadata(model)
    assert (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.add_eos_token"]) == (False, True)


@pytest.mark.parametrize(
    ("processor", "words"),
    [(bos("<|im_start|>"), "<|im_start|>"), ({"type": "BertProcessing"}, "post_processor")],
)
def test_other_post_processors_are_refused(processor: dict[str, Any], words: str, model: Path) -> None:
    change_tokenizer(model, "post_processor", processor)
    with pytest.raises(Unsupported) as caught:
        metadata(model)
    assert words in caught.value.message


def test_special_ids_come_from_the_newest_file_that_has_them(model: Path) -> None:
    change_json(model / "tokenizer_config.json", eos_token=None, pad_token=None)
    write_json(model / "special_tokens_map.json", {"pad_token": {"content": "<|im_start|>"}})
    found = metadata(model)
    assert found["tokenizer.ggml.padding_token_id"] == 1
    assert found["tokenizer.ggml.eos_token_id"] == 2
    (model / "generation_config.json").unlink()
    change_json(model / "config.json", eos_token_id=1)
    assert metadata(model)["tokenizer.ggml.eos_token_id"] == 1
    change_json(model / "config.json", eos_token_id=10**9)
    assert "tokenizer.ggml.eos_token_id" not in metadata(model)


def test_several_ends_are_all_carried_over(model: Path) -> None:
    described = json.loads((model / "tokenizer.json").read_text())
    described["added_tokens"].append({"id": 513, "content": "<|eom_id|>", "special": True})
    write_json(model / "tokenizer.json", described)
    write_json(model / "generation_config.json", {"eos_token_id": [0, 513, 2]})
    found = metadata(model)
    ends = [found[f"tokenizer.ggml.{kind}_token_id"] for kind in ("eos", "eom", "eot")]
    assert ends == [2, 513, 0]


def test_chat_templates_of_all_generations(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert "tokenizer.chat_template" not in metadata(model)
    change_json(model / "tokenizer_config.json", chat_template="{{ messages }}")
    assert metadata(model)["tokenizer.chat_template"] == "{{ messages }}"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    change_json(model / "tokenizer_config.json", chat_template=named)
    assert metadata(model)["tokenizer.chat_template"] == "plain"


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        ("model.type", "WordPiece", Unsupported, "only BPE"),
        ("model.byte_fallback", True, Unsupported, "normalizer"),
        ("model.end_of_word_suffix", "</w>", Unsupported, "end_of_word_suffix"),
        ("model.dropout", 0.1, Unsupported, "dropout"),
        ("model.ignore_merges", True, Unsupported, "ignore_merges"),
        ("model.vocab", [], BadModelFile, "model.vocab"),
        ("model.vocab", {"a": "b"}, BadModelFile, "model.vocab"),
        ("model.vocab", {"a": 520}, BadModelFile, "520"),
        ("model.vocab", {"a": -1}, BadModelFile, "-1"),
        ("model.vocab", {"a": 5, "b": 5}, BadModelFile, "both have id 5"),
        ("model.vocab", {"a\0": 5}, BadModelFile, "NUL"),
        ("model.merges", ["a b c"], BadModelFile, "a b c"),
        ("model.merges", [["a", " b"]], BadModelFile, "merge"),
        ("added_tokens", [{"content": "x"}], BadModelFile, "added token"),
        ("added_tokens", [{"id": 1, "content": "x", "rstrip": True}], Unsupported, "spaces"),
        ("added_tokens", [{"id": 9999, "content": "x"}], BadModelFile, "9999"),
        ("normalizer", {"type": "Lowercase"}, Unsupported, "normalizer"),
        ("pre_tokenizer", {"type": "Whitespace"}, Unsupported, "Whitespace"),
        ("pre_tokenizer", None, Unsupported, "pre-tokenizer"),
    ],
)
def test_tokenizers_that_llama_cpp_would_read_differently_are_refused(
    key: str, value: Any, error: type[FreeholdError], words: str, model: Path
) -> None:
    change_tokenizer(model, key, value)
    with pytest.raises(error) as caught:
        metadata(model)
    assert words in caught.value.line()


def test_nfc_is_accepted(model: Path) -> None:
    change_tokenizer(model, "normalizer", {"type": "NFC"})
    assert metadata(model)["tokenizer.ggml.pre"] == "qwen2"
    assert config_json()["vocab_size"] == SIZE
