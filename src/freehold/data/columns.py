"""Which column is whose: found by name, or named by the user. Covers CSV, prompt/completion and Alpaca."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from freehold.core.errors import BadData
from freehold.core.request import Message

NAMES: dict[str, tuple[str, ...]] = {
    "user": (
        "question",
        "prompt",
        "instruction",
        "query",
        "user",
        "customer message",
        "user message",
        "customer",
        "request",
        "message",
        "input",
        "text",
    ),
    "assistant": (
        "answer",
        "response",
        "completion",
        "reply",
        "assistant",
        "output",
        "agent reply",
        "assistant message",
        "bot",
        "target",
    ),
    "system": ("system", "system prompt", "system message"),
}
_ALPACA = ("instruction", "input", "output")


def find(columns: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Role to column, for user, assistant and where present system and input. Raises BadData listing the columns.

    `named` wins over names that are recognised.
    """
    _check_named(columns, named)
    found = {role: column for role, names in NAMES.items() if (column := _first(columns, names))}
    found.update(named)
    if "user" in named and found.get("assistant") == named["user"]:
        del found["assistant"]
    alpaca = {_plain(column): column for column in columns}
    if not named and all(name in alpaca for name in _ALPACA):
        found = {**found, "user": alpaca["instruction"], "input": alpaca["input"], "assistant": alpaca["output"]}
    missing = [role for role in ("user", "assistant") if role not in found]
    if missing or found["user"] == found["assistant"]:
        raise BadData(
            f"no column is known to hold the {(missing or ['assistant'])[0]}'s text; columns: {', '.join(columns)}",
            'Name them in the recipe: [data] columns = {user = "…", assistant = "…"}',
        )
    return found


def messages(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...] | None:
    """The conversation in a record, or None when question or answer is empty."""
    user = "\n\n".join(text for role in ("user", "input") if (text := _text(record, columns, role)))
    assistant = _text(record, columns, "assistant")
    if not user or not assistant:
        return None
    system = _text(record, columns, "system")
    opening = (Message("system", system),) if system else ()
    return (*opening, Message("user", user), Message("assistant", assistant))


def _check_named(columns: Sequence[str], named: Mapping[str, str]) -> None:
    roles = (*NAMES, "input")
    for role, column in named.items():
        if role not in roles:
            raise BadData(f"columns: {role!r} is no role{_nearest(role, roles)}", f"Roles: {', '.join(roles)}")
        if column not in columns:
            raise BadData(
                f"columns: there is no column {column!r}{_nearest(column, columns)}", f"Columns: {', '.join(columns)}"
            )


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _first(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column with the first of these names."""
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _plain(column: str) -> str:
    return " ".join(column.lower().replace("_", " ").replace("-", " ").split())


def _text(record: Mapping[str, Any], columns: Mapping[str, str], role: str) -> str:
    # A file may have a column without a name: it is not that of a role without a column.
    value = record.get(columns[role]) if role in columns else None
    if value is None or value != value:  # NaN, by which pandas says that nothing is there
        return ""
    return _spelt(value, columns[role]).replace("\r\n", "\n").strip()


def _spelt(value: Any, column: str) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadData(f"column {column!r} holds bytes that are not UTF-8", "Store it as text") from error
