"""A model's tokens as llama.cpp makes them, and the characters that each of them spells."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from freehold.core.errors import BadData, BadModelFile, Unsupported
from freehold.engines.llamacpp.libllama import BadLibraryError, LlamaError, load
from freehold.formats.reading import shown

_SHOWN = 60


class Encoding(NamedTuple):
    """Token ids, and for each the characters that it spells: from, and up to."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Vocabulary:
    """The vocabulary of a loaded model."""

    def __init__(self, library: Any, model: Any) -> None:
        self._library = library
        self._vocab = library.llama_model_get_vocab(model)
        self.size = int(library.llama_vocab_n_tokens(self._vocab))
        wanted = library.llama_vocab_get_add_bos(self._vocab)
        self.bos = [int(library.llama_vocab_bos(self._vocab))] if wanted else []
        """What the model expects before any text: its BOS token, or nothing."""
        self.eos = [int(library.llama_vocab_eos(self._vocab))] if library.llama_vocab_get_add_eos(self._vocab) else []
        """The same behind texts that are not gone on with."""
        self._pieces = lru_cache(maxsize=None)(self.piece)

    def tokens(self, text: str, *, special: bool) -> list[int]:
        """The ids of `text`; with `special`, names of special tokens in it become those tokens. Raises LlamaError."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 16
        found = (ctypes.c_int32 * room)()
        count = self._library.llama_tokenize(self._vocab, data, len(data), found, room, False, special)
        if count < 0:
            raise LlamaError("the text could not be tokenised")
        return list(found[:count])

    def token_to_id(self, token: str) -> int | None:
        """The number of a token by its name; None where there is none."""
        found = self.tokens(token, special=True)
        return found[0] if len(found) == 1 else None

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """What tokens spell."""
        return b"".join(self.piece(token, special=not skip_special_tokens) for token in ids).decode("utf-8", "replace")

    def piece(self, token: int, *, special: bool = True) -> bytes:
        """What a token writes; of special ones their names, or without `special` nothing."""
        room = 64
        while True:
            found = ctypes.create_string_buffer(room)
            count = int(self._library.llama_token_to_piece(self._vocab, token, found, room, 0, special))
            if count >= 0:
                return found.raw[:count]
            room = -count

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[Encoding]:
        """The prompts of conversations as llama-server reads them: BOS before them where the model wants one.

        With `add_special_tokens` texts whose vectors are asked for, as it reads those: EOS behind them too. Raises
        BadData for a text whose tokens do not spell it.
        """
        found = [self.encode(text) for text in texts]
        return [self._ended(each) for each in found] if add_special_tokens and self.eos else found

    def _ended(self, given: Encoding) -> Encoding:
        end = given.offsets[-1][1] if given.offsets else 0
        return Encoding([*given.ids, *self.eos], [*given.offsets, (end, end)])

    def encode(self, text: str) -> Encoding:
        """The same of one."""
        try:
            ids = self.tokens(text, special=True)
            spans = list(spelled(text.encode("utf-8", "replace"), (self._pieces(token) for token in ids)))
        except (ValueError, LlamaError) as error:
            raise BadData(
                f"the tokens of {shown(text, _SHOWN)!r} do not spell it: {error}", "Use a base with another tokenizer"
            ) from error
        if self.bos and ids[:1] != self.bos:
            ids, spans = [*self.bos, *ids], [(0, 0), *spans]
        return Encoding(ids, _characters(text, spans))


def spelled(data: bytes, pieces: Iterator[bytes]) -> Iterator[tuple[int, int]]:
    """The bytes that each piece stands for. Raises ValueError where they are not in `data`.

    Some vocabularies put a space before a text, or swallow those around a special token.
    """
    at = 0
    for piece in pieces:
        found = _found(data, at, piece)
        if found is None:
            raise ValueError(f"{piece!r} is not {data[at : at + len(piece)]!r}")
        begin, at = found
        yield begin, at
    if data[at:].strip():
        raise ValueError(f"{data[at : at + _SHOWN]!r} is left over")


def _found(data: bytes, at: int, piece: bytes) -> tuple[int, int] | None:
    for begin in (at, _past_spaces(data, at)):
        for spelling in (piece, piece.removeprefix(b" ")):
            if data.startswith(spelling, begin):
                return begin, begin + len(spelling)
    return None


def _past_spaces(data: bytes, at: int) -> int:
    while data[at : at + 1].isspace():
        at += 1
    return at


def _characters(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of bytes as spans of characters: one that holds a part of a character holds all of it."""
    if text.isascii():
        return spans
    starts = (np.frombuffer(text.encode("utf-8", "replace"), np.uint8) & 0xC0) != 0x80
    number = np.concatenate([np.cumsum(starts) - 1, [len(text)]]).tolist()
    return [(number[begin], number[end - 1] + 1 if end > begin else number[begin]) for begin, end in spans]


@contextmanager
def vocabulary(path: Path) -> Iterator[Vocabulary]:
    """The vocabulary of a GGUF file whose header was checked; its tensors are not loaded.

    Raises Unsupported without llama.cpp's library, BadModelFile where it does not load the file.
    """
    try:
        library = load()
    except BadLibraryError as error:
        raise Unsupported(f"text cannot be tokenised here: {error}") from error
    params = library.llama_model_default_params()
    params.vocab_only = True
    model = library.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise BadModelFile(f"llama.cpp cannot load the vocabulary of {shown(path, 400)}", "Use another GGUF file")
    try:
        yield Vocabulary(library, model)
    finally:
        library.llama_model_free(model)
