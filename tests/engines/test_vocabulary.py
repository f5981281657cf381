"""Tokens and the characters that they spell: llama.cpp's own ids, in every script, for every kind of vocabulary."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from freehold.convert import to_gguf
from freehold.core.errors import BadModelFile, Unsupported
from freehold.core.request import Message, Request
from freehold.core.settings import Settings
from freehold.engines import wheel
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from freehold.engines.llamacpp.vocabulary import spelled, vocabulary
from tests.convert.folders import SPLITS, TORTURE, change_json, write_folder
from tests.convert.libllama import Llama
from tests.convert.spm import CONTROLS, TEXT, tokenizer_json, write
from tests.serving.support import in_loop
from tests.tiny import write_gguf

CHAT = "".join(f"<|im_start|>user\n{line}<|im_end|>\n" for line in TORTURE.splitlines())
PIECES = [TORTURE[i : i + 37] for i in range(0, len(TORTURE), 11)]


def check(path: Path, texts: list[str]) -> None:
    """Ids as llama.cpp makes them; spans in order that cover all but spaces, each with the text of its token."""
    with vocabulary(path) as words, Llama(path, vocab_only=True) as llama:
        for text, found in zip(texts, words.encode_batch(texts), strict=True):
            assert found.ids == llama.tokenize(text, add_special=True), ascii(text)
            covered, after = [False] * len(text), 0
            for id_, (begin, end) in zip(found.ids, found.offsets, strict=True):
                assert after - 1 <= begin <= end <= len(text)
                covered[begin:end] = [True] * (end - begin)
                assert begin == end or words.piece(id_).removeprefix(b" ") in text[begin:end].encode()
                after = max(after, end)
            assert all(seen or text[at].isspace() for at, seen in enumerate(covered)), ascii(text)


@pytest.mark.parametrize("pre", SPLITS)
def test_byte_level_vocabularies(pre: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", pre=pre)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    texts = ["", "a", TORTURE, CHAT, *PIECES]
    check(tmp_path / "model.gguf", texts)
    reference = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    with vocabulary(tmp_path / "model.gguf") as words:
        for text, found in zip(texts, words.encode_batch(texts), strict=True):
            wanted = reference.encode(text, add_special_tokens=False)
            assert found.ids == wanted.ids
            if pre not in ("gpt-2", "smollm"):  # those trim spaces off what they say a token spells
                assert found.offsets == wanted.offsets


@pytest.mark.parametrize("gemma", [False, True])
def test_vocabularies_of_sentencepiece(gemma: bool, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", vocab_size=900)
    write(tmp_path / "model", None, gemma)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    chat = f"<|user|>\n{TEXT}<|end|>\n<|user|> Hi<|end|>"
    check(tmp_path / "model.gguf", ["a", " a", "  a ", TEXT, chat, *PIECES])


def test_special_tokens_that_swallow_spaces(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", vocab_size=900)
    write(tmp_path / "model", tokenizer_json(gemma=False, rstrip=True), gemma=False)
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    text = f"{CONTROLS[0]}  \n Grüße, мир!{CONTROLS[1]}\n{CONTROLS[0]}ok"
    check(tmp_path / "model.gguf", [text])
    with vocabulary(tmp_path / "model.gguf") as words:
        found = words.encode(text)
    at = text.index("Grüße")
    assert any(begin <= at < end for begin, end in found.offsets)


def test_a_part_of_a_character_is_all_of_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "model")
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    with vocabulary(tmp_path / "model.gguf") as words:
        found = words.encode("x🦊y")
    assert len(found.ids) > 3
    assert set(found.offsets[1:-1]) == {(1, 2)}
    assert (found.offsets[0], found.offsets[-1]) == ((0, 1), (2, 3))


@in_loop
async def test_a_text_whose_vector_is_asked_for_is_what_the_server_reads(tmp_path: Path, settings: Settings) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", hidden=32, layers=1, pooling=3)
    data = bytearray(file.read_bytes())
    at = data.index(b"tokenizer.ggml.add_bos_token")
    name = b"tokenizer.ggml.add_eos_token"
    data[at : at + len(name) + 5] = name + b"\x07\x00\x00\x00\x01"
    file.write_bytes(data)
    worker = await LlamaCpp().start(ModelFile(file, "tiny", embedding=True), settings)
    try:
        asked = await worker.tokenize("Where is my order?")
    finally:
        await worker.stop()
    with vocabulary(file) as words:
        [whole] = words.encode_batch(["Where is my order?"], add_special_tokens=True)
        assert whole.ids == asked
        assert whole.ids[-1] == 2
        assert whole.offsets[-1] == (18, 18)
        assert words.encode("Where is my order?").ids == asked[:-1]


def test_a_model_that_wants_bos_gets_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "model")
    change_json(tmp_path / "model" / "tokenizer_config.json", bos_token="<|endoftext|>")
    special, sequence = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    change_json(
        tmp_path / "model" / "tokenizer.json",
        post_processor={
            "type": "TemplateProcessing", "single": [special, sequence], "pair": [special, sequence],
            "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
        },
    )  # fmt: skip
    to_gguf(tmp_path / "model", tmp_path / "model.gguf")
    with vocabulary(tmp_path / "model.gguf") as words, Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        plain = words.encode("Hello")
        assert plain.ids == llama.tokenize("Hello", add_special=True)
        assert (plain.ids[0], plain.offsets[0]) == (0, (0, 0))
        named = words.encode("<|endoftext|>Hello")
        assert named.ids == plain.ids
        assert named.offsets[0] == (0, len("<|endoftext|>"))


@in_loop
async def test_a_prompt_is_what_the_server_reads(tmp_path: Path, settings: Settings) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    turns = (Message("system", TORTURE[:90]), Message("user", "¿Dónde está 我的订单? 🦊  \n\n"))
    worker = await LlamaCpp().start(ModelFile(path, "tiny"), settings)
    try:
        prompt = await worker.prompt(Request(model="tiny", messages=turns))
        read = await worker.tokenize(prompt, special=True)
    finally:
        await worker.stop()
    with vocabulary(path) as words:
        assert words.encode(prompt).ids == read


@pytest.mark.parametrize(
    ("data", "pieces", "spans"),
    [
        (b"ab", [b"a", b"b"], [(0, 1), (1, 2)]),
        (b"ab", [b" ab"], [(0, 2)]),
        (b"<s>\n a", [b"<s>", b"a"], [(0, 3), (5, 6)]),
        (b"a  ", [b"a"], [(0, 1)]),
        (b"a", [b" ", b"a"], [(0, 0), (0, 1)]),
    ],
)
def test_spaces_come_and_go(data: bytes, pieces: list[bytes], spans: list[tuple[int, int]]) -> None:
    assert list(spelled(data, iter(pieces))) == spans


@pytest.mark.parametrize("pieces", [[b"b"], [b"a"], [b"a", b"b", b"c"], []])
def test_tokens_that_do_not_spell_the_text_are_noticed(pieces: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"is not|left over"):
        list(spelled(b"ab", iter(pieces)))


def test_a_file_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(BadModelFile, match=r"none\.gguf"), vocabulary(tmp_path / "none.gguf"):
        pass


def test_without_the_library_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "libraries", list)
    with pytest.raises(Unsupported, match="xllamacpp"), vocabulary(write_gguf(tmp_path / "tiny.gguf")):
        pass
