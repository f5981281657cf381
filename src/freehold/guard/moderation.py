"""Moderation by rules: words and patterns of a file that ships with Freehold and says what they cannot do."""

import re
import tomllib
import unicodedata
from functools import cache
from importlib import resources

import msgspec

from freehold.core.errors import TooLarge

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""As OpenAI names them."""
MAX_TEXT = 1 << 18
"""Characters that are judged at once."""
_UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufeff]")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern, and what a match counts for each category."""

    pattern: str
    scores: dict[str, float]


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of the rules."""

    name: str
    threshold: float
    words: dict[str, str]
    rule: tuple[Rule, ...]


class Verdict(msgspec.Struct, frozen=True):
    """What the rules say of a text: a score from 0 to 1 for each category, and which of them are flagged."""

    scores: dict[str, float]
    flagged: frozenset[str]


@cache
def rules() -> Rules:
    """The rules that ship with Freehold."""
    text = resources.files("freehold.assets").joinpath("moderation", "rules.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Rules)


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], dict[str, float]], ...]:
    known = rules()
    found = []
    for rule in known.rule:
        pattern = rule.pattern
        for name, words in known.words.items():
            pattern = pattern.replace("{" + name + "}", words)
        found.append((re.compile(pattern), rule.scores))
    return tuple(found)


def judge(text: str) -> Verdict:
    """What the rules say of a text. Raises TooLarge."""
    if len(text) > MAX_TEXT:
        raise TooLarge(f"the text is longer than {MAX_TEXT} characters", "Send less at once", param="input")
    plain = _plain(text)
    spared = dict.fromkeys(CATEGORIES, 1.0)
    for pattern, scores in _compiled():
        if pattern.search(plain):
            for category, score in scores.items():
                spared[category] *= 1.0 - score
    scores = {category: round(1.0 - left, 6) for category, left in spared.items()}
    return Verdict(scores, frozenset(name for name, score in scores.items() if score >= rules().threshold))


def _plain(text: str) -> str:
    """In lower case, with plain quotes and single blanks, without what nobody sees."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return " ".join(_UNSEEN.sub("", folded).split())
