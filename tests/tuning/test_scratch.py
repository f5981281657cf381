"""A base made from nothing: a word is the same token wherever it stands, in tokenizers and in llama.cpp."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from freehold.convert import to_gguf
from freehold.core.errors import BadData, BadInput
from freehold.tuning import scratch
from freehold.tuning.job import Architecture
from tests.convert.folders import TORTURE
from tests.convert.libllama import Llama

SHAPE = Architecture(vocab=320, hidden=32, layers=1, heads=2, kv_heads=1, intermediate=32, context=64)
NAMES = ("Lindor", "Marwick", "Pelton", "Rosvane", "Torbel", "Winstead")


def chats(count: int = 300) -> list[list[str]]:
    draw = random.Random(5)
    made = []
    for _ in range(count):
        first, second = draw.sample(NAMES, 2)
        said = f'Here is the list of the day: {first} and {second} went to the sea, and the town said "{second}".'
        made.append([said, f'{first}\n{{"name": "{second}"}} ({first})'])
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scratch")
    scratch.make(out, chats(), SHAPE, seed=1)
    return out


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("before", ["", " ", '"', "\n", "(", "the ", ", ", "/", "it's "])
def test_a_name_is_the_same_tokens_after_anything(before: str, tokenizer: Tokenizer) -> None:
    for name in (*NAMES, "Brightwater", "élan"):
        tokens = tokenizer.encode(before + name).ids
        own = tokenizer.encode(name).ids
        assert tokens[-len(own) :] == own


def test_words_that_always_follow_a_space_take_it_in(tokenizer: Tokenizer) -> None:
    assert {"Ġthe", "Ġand"} <= set(tokenizer.get_vocab())
    assert tokenizer.encode("to the sea").tokens.count("Ġthe") == 1
    assert not any(token[0] == "Ġ" and token[1:] in NAMES for token in tokenizer.get_vocab())


def test_the_vocabulary_has_the_size_asked_for_and_ids_without_gaps(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(SHAPE.vocab))
    assert [tokenizer.id_to_token(index) for index in range(3)] == [scratch.END, scratch.TURN, scratch.TURN_END]


def test_every_text_comes_back(tokenizer: Tokenizer) -> None:
    for text in (TORTURE, *(text for chat in chats(5) for text in chat)):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_llama_cpp_cuts_it_the_same_way(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    to_gguf(folder, tmp_path / "model.gguf")
    texts = [TORTURE, *TORTURE.splitlines(), *(text for chat in chats(20) for text in chat)]
    texts += [f"the{word} the {word}s {word}the" for word in ("ory", "n", "sea", "and", "town")]
    with Llama(tmp_path / "model.gguf", vocab_only=True) as llama:
        for text in texts:
            assert llama.tokenize(text) == tokenizer.encode(text).ids, ascii(text)


def test_the_same_rows_and_seed_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    scratch.make(tmp_path / "again", chats(), SHAPE, seed=1)
    for path in sorted(folder.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    scratch.make(tmp_path / "other", chats(), SHAPE, seed=2)
    weights = "model.safetensors"
    assert (tmp_path / "other" / weights).read_bytes() != (folder / weights).read_bytes()


def test_too_little_text_and_a_shape_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="of the 320 asked for"):
        scratch.make(tmp_path / "few", [["a b", "c"]], SHAPE, seed=1)
    with pytest.raises(BadInput, match="heads"):
        scratch.make(tmp_path / "odd", chats(), Architecture(hidden=30, heads=4, kv_heads=3), seed=1)
