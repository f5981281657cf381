"""The forms in which two questions count as the same."""

import re
import unicodedata

_DIGITS = re.compile(r"\d+")
_SEPARATORS = re.compile(r"[\W_]+")
_MARKS = ".,;:!?…¿¡\"'“”‘’。、"
"""Of sentences, as they stand before and after words."""


def normal(text: str) -> str:
    """`text` without case, punctuation and spacing, each number a 0."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SEPARATORS.sub(" ", _DIGITS.sub("0", folded)).strip()


def plain(text: str) -> str:
    """`text` without case, spacing and the marks around words: numbers, symbols and the order of words stay."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(word.strip(_MARKS) or word for word in folded.split())
