"""What is said of keys and values that a recipe cannot have: what is known in their place, and what is nearest."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

Sections = Mapping[str, type]

_CALLED = {
    "lr": "learning_rate", "num_train_epochs": "epochs", "max_steps": "steps", "r": "rank", "lora_r": "rank",
    "lora_alpha": "alpha", "batch_size": "batch", "per_device_train_batch_size": "batch",
    "max_seq_length": "max_length", "gradient_checkpointing": "checkpointing", "warmup_ratio": "warmup",
    "early_stopping_patience": "patience",
    "random_seed": "seed", "dataset": "data", "file": "path", "train": "tune", "training": "tune", "eval": "evaluate",
    "quantization": "quantize", "license": "licence", "base_model": "base", "test_size": "held_out",
    "system_prompt": "system", "cpt": "text", "fp32": "f32", "float32": "f32", "bfloat16": "bf16",
    "instruction": "sft", "classification": "classify", "embedding": "embed",
}  # fmt: skip
"""What others call it."""
_COMBINED = {"qlora": 'It is method = "lora" with base_dtype = "nf4"'}
_SAID = {"`float`": "a number", "`int`": "a whole number", "`str`": "text", "`bool`": "true or false"}
_AT = re.compile(r"(.*?) - at `\$\.(\w+)(?:\.(\w+))?([\w\[\].…]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.(\w+)`)?")
_ENUM = re.compile(r"Invalid enum value '(.*)'", re.DOTALL)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is meant, as a question; nothing where none is near."""
    spelt = {each.casefold(): each for each in known}
    word = word.casefold()
    called = _CALLED.get(word.replace("-", "_"), "")
    close = [called] if called in spelt else difflib.get_close_matches(word, list(spelt), 1, 0.5)
    return f" (did you mean {spelt[close[0]]!r}?)" if close else ""


def known(what: str, words: Iterable[str]) -> str:
    """All that could have been said."""
    return f"{what}: {', '.join(words)}"


def flaw(text: str, sections: Sections) -> tuple[str, str]:
    """What msgspec says, as in "Expected ... - at `$.tune.rank`", as a message such as [tune] rank: expected ..., and
    a remedy.
    """
    missing = _MISSING.fullmatch(text)
    if missing:
        where = f"[{missing[2]}] key {missing[1]} is missing" if missing[2] else f"section [{missing[1]}] is missing"
        return where, "Correct the value"
    found = _AT.fullmatch(text)
    if found is None:
        return text, "Correct the value"
    what, section, key, more = found.groups()
    where = f"[{section}] {key or ''}{more}"
    given = _ENUM.fullmatch(what)
    words = [*_words(get_type_hints(sections[section])[key])] if given and key and section in sections else []
    if given and words:
        near = nearest(given[1], words)
        return f"{where}: {given[1]!r} is unknown{near}", _COMBINED.get(given[1].casefold()) or known("Known", words)
    for kind, said in _SAID.items():
        what = what.replace(kind, said)
    return f"{where}: {what[0].lower()}{what[1:]}", "Correct the value"


def _words(kind: Any) -> Iterator[str]:
    """The words that a value of a type may be."""
    if get_origin(kind) is Literal:
        yield from (word for word in get_args(kind) if isinstance(word, str) and word)
    else:
        seen: dict[str, None] = {}
        for each in get_args(kind):
            seen |= dict.fromkeys(_words(each))
        yield from seen
