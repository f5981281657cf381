"""JSON: one array of objects, by itself or as the one such list in an object."""

from pathlib import Path

from freehold.core.errors import BadData
from freehold.data.json_text import array_in, decoded, is_lines, lines_in
from freehold.data.readers import Reader, Table
from freehold.data.text import read_text


def read(path: Path) -> Table:
    """The records of a JSON array; their line is their number, from 1. Raises BadData."""
    text = read_text(path)
    try:
        value = decoded(path, text)
    except BadData:
        if is_lines(text):  # a common name for JSON Lines, too
            return lines_in(text, ("the file is JSON Lines, and no JSON array",))
        raise
    return array_in(path, value)


def _likelihood(head: bytes, suffix: str) -> int:
    begin = head.lstrip()[:1]
    if begin == b"{":
        return 55 if suffix == ".json" else 0
    return (60 if suffix == ".json" else 50) if begin == b"[" else 0


READER = Reader("json", _likelihood, read)
