"""Tokenizers in SentencePiece's style: the same ids in llama.cpp as in tokenizers and in SentencePiece itself."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from freehold.convert import to_gguf
from freehold.convert.config import Config
from freehold.convert.plan import Metadata
from freehold.convert.sentencepiece import BYTES, adds_prefix, scores
from freehold.convert.tokenizer import tokenizer_metadata
from freehold.convert.tokentypes import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from tests.convert import spm
from tests.convert.folders import change_json, write_folder, write_json
from tests.convert.libllama import Llama

pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")

SIZE = 960
PIECES = [spm.TEXT, *spm.TEXT.splitlines(), *(spm.TEXT[i : i + 37] for i in range(0, len(spm.TEXT), 5))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "model", vocab_size=SIZE)
    return tmp_path / "model"


def metadata(folder: Path) -> Metadata:
    return tokenizer_metadata(folder, Config.read(folder / "config.json"), SIZE)


@pytest.mark.parametrize("gemma", [False, True])
def test_llama_cpp_cuts_text_as_tokenizers_does(gemma: bool, folder: Path, tmp_path: Path) -> None:
    spm.write(folder, spm.tokenizer_json(gemma), gemma)
    to_gguf(folder, tmp_path / "model.gguf")
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    chat = "".join(f"<|user|>{line}<|end|>\n" for line in spm.TEXT.splitlines())
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        for text in [*PIECES, chat, "▁▁ ▁", "<|user|>  two"]:
            assert llama.tokenize(text) == reference.encode(text, add_special_tokens=False).ids, ascii(text)


@pytest.mark.parametrize("gemma", [False, True])
def test_llama_cpp_cuts_text_as_sentencepiece_does(gemma: bool, folder: Path, tmp_path: Path) -> None:
    """From tokenizer.model alone."""
    spm.write(folder, None, gemma)
    to_gguf(folder, tmp_path / "model.gguf")
    reference = spm.processor(gemma)
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        for text in filter(None, PIECES):
            assert llama.tokenize(text) == reference.encode(text), ascii(text)
        assert llama.tokenize("Hello", add_special=True) == [1, *reference.encode("Hello")]


def test_special_tokens_swallow_spaces_where_phi_3_has_them_do_so(folder: Path, tmp_path: Path) -> None:
    spm.write(folder, spm.tokenizer_json(False, rstrip=True), False)
    to_gguf(folder, tmp_path / "model.gguf")
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        for text in ("<|user|>\n Hello<|end|>\n<|user|> \n", "<s> Hello</s>  there<s>\n"):
            assert llama.tokenize(text) == reference.encode(text, add_special_tokens=False).ids, ascii(text)


def test_types_scores_and_prefix(folder: Path) -> None:
    spm.write(folder, spm.tokenizer_json(True), True)
    found = metadata(folder)
    tokens, types, known = (found[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "scores"))
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    assert isinstance(known, list)
    kinds: dict[Any, Any] = dict(zip(tokens, types, strict=True))
    assert (kinds["<unk>"], kinds["<s>"], kinds["<0x0A>"], kinds["\n\n"]) == (UNKNOWN, CONTROL, BYTE, USER_DEFINED)
    assert sum(kind == BYTE for kind in types) == 256
    assert kinds["▁"] == NORMAL
    assert len(tokens) == len(known) == SIZE
    assert found["tokenizer.ggml.add_space_prefix"] is False
    assert found["tokenizer.ggml.model"] == "llama"


def test_beside_a_tokenizer_model_added_tokens_are_read(folder: Path) -> None:
    spm.write(folder, None, False)
    write_json(folder / "added_tokens.json", {"<tool>": 901})
    change_json(
        folder / "tokenizer_config.json",
        add_eos_token=True,
        added_tokens_decoder={"902": {"content": "<think>", "special": True}, "1": {"content": "<s>", "special": True}},
    )
    found = metadata(folder)
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    assert [(tokens[i], types[i]) for i in (901, 902)] == [("<tool>", USER_DEFINED), ("<think>", CONTROL)]
    assert (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.add_eos_token"]) == (True, True)
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]) == (1, 2)


MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
META = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer", "expected"),
    [
        (MARK, None, False),
        ({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, MARK]}, None, True),
        (None, META, True),
        (None, META | {"prepend_scheme": "never"}, False),
        (None, META | {"split": True}, None),
        (None, None, None),
        (MARK, META, None),
        ({"type": "NFKC"}, META, None),
    ],
)
def test_spaces(normalizer: Any, pre_tokenizer: Any, expected: bool | None) -> None:
    assert adds_prefix(normalizer, pre_tokenizer) is expected


def test_scores_follow_the_merges() -> None:
    vocab = dict.fromkeys(["a", "b", "ab", "aba", "ba"], 0)
    assert scores(vocab, [("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba")], set()) == {"ab": -1, "ba": -2, "aba": -3}


@pytest.mark.parametrize(
    ("merges", "words"),
    [
        ([("a", "b"), ("ab", "a"), ("b", "a"), ("a", "ba")], "apart"),
        ([("a", "b"), ("b", "a"), ("ab", "a")], "no merge"),
        ([("a", "b"), ("ab", "a"), ("a", "ba")], "no merge"),
    ],
)
def test_merges_that_scores_cannot_say_are_refused(merges: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        scores(dict.fromkeys(["a", "b", "ab", "aba", "ba"], 0), merges, set())


def _without_byte(described: dict[str, Any]) -> None:
    del described["model"]["vocab"][BYTES[200]]


def _one_strips(described: dict[str, Any]) -> None:
    described["added_tokens"][-2]["rstrip"] = True


def _twice(described: dict[str, Any]) -> None:
    described["model"]["vocab"]["twice"] = 300


def _too_large(described: dict[str, Any]) -> None:
    described["model"]["vocab"]["large"] = SIZE


def _nul(described: dict[str, Any]) -> None:
    described["model"]["vocab"]["\0"] = SIZE - 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_without_byte, Unsupported, "<0xC8>"),
        (_one_strips, Unsupported, "some tokens"),
        (_twice, BadModelFile, "300"),
        (_too_large, BadModelFile, "960"),
        (_nul, BadModelFile, "NUL"),
    ],
)
def test_what_llama_cpp_cannot_hold_is_refused(
    change: Any, error: type[FreeholdError], words: str, folder: Path
) -> None:
    described = spm.tokenizer_json(False)
    change(described)
    spm.write(folder, described, False)
    with pytest.raises(error) as caught:
        metadata(folder)
    assert words in caught.value.line()
