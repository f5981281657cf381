"""What is wrong with a recipe, said to somebody who gave options in its place."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freehold.core.errors import FreeholdError

_SECTIONS = {
    "model": {"name": "--out", "base": "BASE"},
    "data": {"path": "DATA", "columns": "--column", "kind": "--kind", "format": "--format", "held_out": "--held-out"}
    | {"broken": "--broken"},
    "tune": {"rewards": "--reward"},
}
_PLAIN = (
    "method", "objective", "judge", "rubric", "rank", "alpha", "learning_rate", "steps", "epochs", "time", "batch",
    "batch_tokens", "max_length", "seed", "dtype", "base_dtype", "checkpointing", "scale", "pooling", "offload",
    "backend", "patience", "threads", "log",
)  # fmt: skip
_SECTIONS["tune"] |= {key: f"--{key.replace('_', '-')}" for key in _PLAIN}
"""The options of 'freehold tune' by the keys that they stand for."""
_KEYS = {key: option for keys in _SECTIONS.values() for key, option in keys.items() if option.startswith("--")}
_NAMED = re.compile(r"\[(model|data|tune)\] (\w+)( = )?")
_WRITTEN = re.compile(r"""(?:\[\w+\] )?\b(\w+) = (?:\["(\w+)"\]|["']([^"']*)["']|(\w+))""")
_COLUMNS = re.compile(r"Name them in the recipe: \[data\] columns = \{.*\}|name the columns: \[data\] columns = \{.*\}")


@contextmanager
def as_options(recipe: Path) -> Iterator[None]:
    """Errors about the recipe that options make, which lies nowhere, speak of the options."""
    try:
        yield
    except FreeholdError as error:
        error.message = spelt(error.message.replace(f"{recipe}: ", ""))
        error.remedy = spelt(error.remedy).replace("Write --", "Give --").replace("write --", "give --")
        raise


def spelt(text: str) -> str:
    """A message about a recipe, its keys as the options of 'freehold tune'; keys without an option stay."""
    text = _COLUMNS.sub(_columned, text)
    return _NAMED.sub(_named, _WRITTEN.sub(_written, text)).replace("[tune] ", "")


def _columned(found: re.Match[str]) -> str:
    return f"{found[0].partition(':')[0].removesuffix(' in the recipe')}: --column user=NAME --column assistant=NAME"


def _written(found: re.Match[str]) -> str:
    option = _KEYS.get(found[1])
    return found[0] if option is None else f"{option} {found[2] or found[3] or found[4]}"


def _named(found: re.Match[str]) -> str:
    option = _SECTIONS[found[1]].get(found[2])
    return found[0] if option is None else f"{option}{' ' if found[3] else ''}"
