"""How a model is shown the place where text is to be written: three tokens of its vocabulary that mark it.

https://arxiv.org/abs/2207.14255 (prefix, suffix, middle). The names are those that llama.cpp knows.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_KEY = "tokenizer.ggml.fim_{}_token_id"
_NAMES = {
    "pre": ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
            "<|prefix|>"),
    "suf": ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>",
            "<|suffix|>"),
    "mid": ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
            "<|middle|>"),
}  # fmt: skip
"""What the tokens are called where a file does not say which they are."""


class Marks(NamedTuple):
    """The tokens before what stands before the place, before what stands after it, and before what is written."""

    prefix: int
    suffix: int
    middle: int


def marks(metadata: Mapping[str, Any]) -> Marks | None:
    """The marks of the model with this GGUF metadata; None for one that has not all three."""
    said = {mark: metadata.get(_KEY.format(mark)) for mark in _NAMES}
    unsaid = {name: mark for mark, names in _NAMES.items() if said[mark] is None for name in names}
    if unsaid:
        tokens = metadata.get("tokenizer.ggml.tokens", ())
        for number, token in enumerate(tokens if isinstance(tokens, Iterable) else ()):
            if isinstance(token, str) and token in unsaid and said[unsaid[token]] is None:
                said[unsaid[token]] = number
    prefix, suffix, middle = (said[mark] for mark in ("pre", "suf", "mid"))
    if not isinstance(prefix, int) or not isinstance(suffix, int) or not isinstance(middle, int):
        return None
    return Marks(prefix, suffix, middle)
