"""The text that quantised models are measured on, and that importance matrices are made from, as windows of tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from freehold.core.errors import BadInput
from freehold.data import Row
from freehold.engines.llamacpp.scorer import Scorer
from freehold.formats import chat_template
from freehold.formats.gguf import GgufHeader
from freehold.formats.gguf_values import GgufArray
from freehold.formats.reading import regular_file, shown

MAX_TEXT = 64 << 20
"""Bytes of a text file that are read."""
_EVERY = 5
"""One window in this many is held out, when the others make an importance matrix."""
_SMALLEST = 32
_PIECE = 1 << 20
"""Characters tokenised at once."""


class Texts(NamedTuple):
    """Pieces of text; `chat` when they are rendered conversations, in which special tokens are spelt out.

    `split`: importance matrices are made of most of it, now or at another time, so that only the rest measures fairly.
    """

    pieces: tuple[str, ...]
    chat: bool = False
    split: bool = False


class Windows(NamedTuple):
    """Windows of tokens: those that are held out, to measure on, and those that an importance matrix may be made of."""

    held_out: list[list[int]]
    calibration: list[list[int]]


def from_file(path: Path) -> Texts:
    """A text file, in UTF-8. Raises NotFound, BadInput."""
    with regular_file(path) as (file, _):
        data = file.read(MAX_TEXT) or b""
    text = data.decode("utf-8", "replace")
    if not text.strip():
        raise BadInput(f"{shown(path, 400)} holds no text", "Name a file of text like what the model will read")
    if "\0" in text:
        raise BadInput(f"{shown(path, 400)} is no text file", "Name a file of plain text in UTF-8")
    return Texts(tuple(text[start : start + _PIECE] for start in range(0, len(text), _PIECE)), split=True)


def from_rows(rows: Sequence[Row], header: GgufHeader) -> Texts:
    """Conversations, as the model's own chat template renders them. Raises BadInput, BadModelFile."""
    template = header.metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        return Texts(tuple("\n".join(message.content for message in row.messages) for row in rows))
    rendered = [
        chat_template.render(
            template,
            msgspec.json.decode(row.encode())["messages"],
            add_generation_prompt=False,
            bos_token=_token(header, "bos"),
            eos_token=_token(header, "eos"),
        )
        for row in rows
    ]
    return Texts(tuple(rendered), chat=True)


def _token(header: GgufHeader, name: str) -> str:
    tokens, index = header.metadata.get("tokenizer.ggml.tokens"), header.metadata.get(f"tokenizer.ggml.{name}_token_id")
    if isinstance(tokens, GgufArray) and type(index) is int and 0 <= index < len(tokens):
        return str(tokens[index])
    return ""


async def windows(texts: Texts, scorer: Scorer, *, measured: int, calibrated: int) -> Windows:
    """Windows for at most `measured` tokens to measure on and `calibrated` for an importance matrix.

    Of text that is split, or wanted for both, every fifth window is held out, whatever it is wanted for: figures with
    and without a matrix are of the same windows. Raises BadInput when the text is too short.
    """
    pieces = await _tokens(texts, scorer, 2 * _EVERY * max(measured, calibrated))
    total = sum(len(piece) for piece in pieces)
    length = min(scorer.context_length, max(_SMALLEST, total // (2 * _EVERY)))
    cut = [window for piece in pieces for window in _cut(piece, length, scorer.bos)]
    split = texts.split or bool(measured and calibrated)
    if total < _SMALLEST or not cut or (split and len(cut) < _EVERY):
        raise BadInput(
            f"the text has only {total} tokens", f"Give text of at least {_SMALLEST * _EVERY} tokens; more is better"
        )
    if not split:
        return Windows(_spread(cut, measured), _spread(cut, calibrated))
    calibration = [window for i, window in enumerate(cut) if i % _EVERY != _EVERY - 1]
    return Windows(_spread(cut[_EVERY - 1 :: _EVERY], measured), _spread(calibration, calibrated))


async def _tokens(texts: Texts, scorer: Scorer, enough: int) -> list[list[int]]:
    found, total = [], 0
    for piece in texts.pieces:
        tokens = await scorer.tokens(piece, special=texts.chat)
        if texts.chat and tuple(tokens[:1]) == scorer.bos:
            tokens = tokens[1:]
        found.append(tokens)
        total += len(tokens)
        if total >= enough:
            break
    return found


def _cut(tokens: Sequence[int], length: int, bos: Sequence[int]) -> list[list[int]]:
    """Windows of at most `length` tokens, each with the BOS token in front; a rest of one token is left out."""
    step = length - len(bos)
    cut = [[*bos, *tokens[start : start + step]] for start in range(0, len(tokens), step)]
    return [window for window in cut if len(window) > 1 + len(bos)]


def _spread(cut: list[list[int]], tokens: int) -> list[list[int]]:
    """Windows from all over the text, of about `tokens` tokens together, at least one if any is wanted."""
    if not tokens or not cut:
        return []
    mean = sum(len(window) for window in cut) / len(cut)
    count = min(len(cut), max(1, round(tokens / mean)))
    return [cut[i * len(cut) // count] for i in range(count)]
