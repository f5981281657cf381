"""JSON Lines: one object a line."""

from pathlib import Path

from freehold.data.json_text import array_in, decoded, is_array, lines_in
from freehold.data.readers import Reader, Table
from freehold.data.text import read_text


def read(path: Path) -> Table:
    """The records of a JSON Lines file. Raises BadData where it is one array that cannot be read."""
    text = read_text(path)
    if is_array(text):
        return array_in(path, decoded(path, text), ("the file is one JSON array, and no JSON Lines",))
    return lines_in(text)


def _likelihood(head: bytes, suffix: str) -> int:
    if suffix in (".jsonl", ".ndjson"):
        return 70
    return 50 if head.lstrip().startswith(b"{") else 0


READER = Reader("jsonl", _likelihood, read)
