"""The forms in which two questions count as the same."""

import re
import unicodedata
from collections.abc import Iterator

_DIGITS = re.compile(r"\d+")
_SEPARATORS = re.compile(r"[\W_]+")
_MARKS = ".,;:!?…¿¡\"'“”‘’。、"
"""Of sentences, as they stand before and after words."""
# Thai, Lao, Myanmar, Khmer; kana; Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)
"""Scripts that put no blanks between words."""


def normal(text: str) -> str:
    """`text` without case, punctuation and spacing, each number a 0."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SEPARATORS.sub(" ", _DIGITS.sub("0", folded)).strip()


def plain(text: str) -> str:
    """`text` without case, spacing and the marks around words: numbers, symbols and the order of words stay."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(word.strip(_MARKS) or word for word in folded.split())


def pieces(text: str) -> list[str]:
    """The words of a text in one of these forms; of scripts without blanks each two characters that stand together."""
    return text.split() if text.isascii() else [piece for word in text.split() for piece in _parts(word)]


def unspaced(word: str) -> bool:
    """Whether a word is of a script without blanks: two characters of it say as much as a word of others."""
    return _UNSPACED.match(word) is not None


def _parts(word: str) -> Iterator[str]:
    end = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
        end = run.end()
        pairs = (word[at : at + 2] for at in range(run.start(), end - 1))
        yield from pairs if end - run.start() > 1 else (run[0],)
    if end < len(word):
        yield word[end:]
