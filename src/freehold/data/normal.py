"""The form in which two questions count as the same."""

import re
import unicodedata

_DIGITS = re.compile(r"\d+")
_SEPARATORS = re.compile(r"[\W_]+")


def normal(text: str) -> str:
    """`text` without case, punctuation and spacing, each number a 0."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SEPARATORS.sub(" ", _DIGITS.sub("0", folded)).strip()
