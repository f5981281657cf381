"""Which column is whose: found by name, or named by the user. Covers CSV, prompt/completion and Alpaca."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from freehold.core.errors import BadData
from freehold.core.request import Message
from freehold.data.conversations import checked

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
ROLES = (*NAMES, "input", "chosen", "rejected", "label", "text", "reference", "anchor", "positive", "negative", "score")
_ALPACA = ("instruction", "input", "output")
_KNOWN = {name for names in NAMES.values() for name in names}
TITLES = 5
"""Rows that may stand above the header."""


def header(rows: Sequence[Sequence[Any]]) -> int:
    """Which of a sheet's first rows names the columns: not the first where that is a title over them.

    A title has fewer cells, and none of them a known name; the row that is taken in its place has one.
    """
    filled = [[cell for cell in row if cell not in (None, "")] for row in rows[: TITLES + 1]]
    for index, cells in enumerate(filled):
        names = [_plain(cell) for cell in cells if isinstance(cell, str)]
        if not _KNOWN.isdisjoint(names):
            wider = len(cells) > max(map(len, filled[:index]), default=0)
            return index if wider and len(set(names)) == len(cells) else 0
    return 0


def find(
    columns: Sequence[str], named: Mapping[str, str], counts: Mapping[str, int] = {}, notes: Sequence[str] = ()
) -> dict[str, str]:
    """Role to column, for user, assistant and where present system and input. Raises BadData listing the columns.

    `named` wins over names that are recognised; `counts` is how many records have each column, as `first` takes it;
    `notes` say what these are the columns of.
    """
    found = guess(columns, named, counts)
    missing = [role for role in ("user", "assistant") if role not in found]
    if missing or found["user"] == found["assistant"]:
        known = "; ".join([f"columns: {', '.join(columns)}", *notes])
        remedy = 'Name them in the recipe: [data] columns = {user = "…", assistant = "…"}'
        if sum(map(_is_name, columns)) < min(2, len(columns)):
            remedy = f"If a title stands above the columns' names, delete it. {remedy}"
        raise BadData(f"no column is known to hold the {(missing or ['assistant'])[0]}'s text; {known}", remedy)
    return found


def guess(columns: Sequence[str], named: Mapping[str, str], counts: Mapping[str, int] = {}) -> dict[str, str]:
    """As `find`, with the roles that have no column left out."""
    free = [column for column in columns if column not in named.values()]
    found = {role: column for role, names in NAMES.items() if (column := first(free, names, counts))}
    found.update(named)
    alpaca = {_plain(column): column for column in columns}
    if not named and all(name in alpaca for name in _ALPACA):
        found = {**found, "user": alpaca["instruction"], "input": alpaca["input"], "assistant": alpaca["output"]}
    return found


def check_named(columns: Sequence[str], named: Mapping[str, str]) -> None:
    """Raises BadData for a role or a column that is not there."""
    for role, column in named.items():
        if role not in ROLES:
            raise BadData(f"columns: {role!r} is no role{_nearest(role, ROLES)}", f"Roles: {', '.join(ROLES)}")
        if column not in columns:
            raise BadData(
                f"columns: there is no column {column!r}{_nearest(column, columns)}", f"Columns: {', '.join(columns)}"
            )


def first(columns: Sequence[str], names: Sequence[str], counts: Mapping[str, int] = {}) -> str | None:
    """The column with the first of these names, of those that at least half as many records have as any other."""
    plain = {_plain(column): column for column in reversed(columns)}
    known = [plain[name] for name in names if name in plain]
    most = max((counts.get(column, 0) for column in known), default=0)
    return next((column for column in known if 2 * counts.get(column, 0) >= most), None)


def elsewhere(record: Mapping[str, Any], columns: Mapping[str, str], named: Mapping[str, str]) -> None:
    """Raises BadData for a record without question or answer that has it in another column than `columns` says."""
    roles = ("user", "assistant")
    lacking = [role for role in roles if columns[role] not in record]
    # In Parquet each record has every column: a pair that stands elsewhere tells of another habit, one text does not.
    if not lacking and any(record[columns[role]] is not None for role in roles):
        return
    own = guess([column for column, value in record.items() if value is not None and value != ""], named)
    others = [(role, own[role]) for role in lacking or roles if own.get(role, columns[role]) not in columns.values()]
    if others and (lacking or len(others) == len(roles)):
        role, other = others[0]
        raise BadData(
            f"has the {role}'s text in column {other!r}, other rows in {columns[role]!r}",
            "Give all rows the same columns",
        )


def opening(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    """The system message and what the user says; nothing when the user says nothing."""
    user = "\n\n".join(said for role in ("user", "input") if (said := text(record, columns.get(role))))
    if not user:
        return ()
    system = text(record, columns.get("system"))
    return (*((Message("system", system),) if system else ()), Message("user", user))


def messages(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...] | None:
    """The conversation in a record, or None when question or answer is empty."""
    before = opening(record, columns)
    assistant = text(record, columns.get("assistant"))
    return (*before, Message("assistant", assistant)) if before and assistant else None


def text(record: Mapping[str, Any], column: str | None) -> str:
    """What stands in a column, as text; empty for no column. Raises BadData."""
    # A file may have a column without a name: it is not that of a role without a column.
    value = None if column is None else record.get(column)
    if value is None or value != value:  # NaN, by which pandas says that nothing is there
        return ""
    return checked(trimmed(_spelt(value, column).replace("\r\n", "\n")))


def trimmed(text: str) -> str:
    """`text` without blanks around it, but for the indentation of its first line: code is learned with it.

    One leading space is none: completions of OpenAI's older form begin so.
    """
    bare = text.strip()
    indent = text[: len(text) - len(text.lstrip())].rpartition("\n")[2] if bare else ""
    return bare if indent == " " or indent.strip(" \t") else indent + bare


def _is_name(column: str) -> bool:
    """Whether the file itself calls a column so."""
    return bool(column) and not column.startswith("(column ")


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _plain(column: str) -> str:
    return " ".join(column.lower().replace("_", " ").replace("-", " ").split())


def _spelt(value: Any, column: str | None) -> str:
    if isinstance(value, list | dict):
        raise BadData(f"holds no text in column {column!r}", "Give text there, or a list of turns under 'messages'")
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadData(f"holds bytes that are not UTF-8 in column {column!r}", "Store it as text") from error
