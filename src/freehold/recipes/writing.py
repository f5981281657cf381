"""Recipes as TOML text."""

import json
from collections.abc import Mapping
from typing import Any


def toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """A recipe's sections as its file would spell them."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value(each)}\n" for key, each in keys.items())
        for name, keys in sections.items()
    )


def value(given: Any) -> str:
    """A string, a number, a truth value, a list or a table of strings."""
    if isinstance(given, str):
        return quoted(given)
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, Mapping):
        return "{" + ", ".join(f"{quoted(key)} = {value(each)}" for key, each in given.items()) + "}"
    if isinstance(given, list | tuple):
        return "[" + ", ".join(map(value, given)) + "]"
    return repr(given)


def quoted(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
