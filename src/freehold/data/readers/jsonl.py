"""JSON Lines: one object a line."""

from pathlib import Path

import msgspec

from freehold.core.errors import BadData
from freehold.data.readers import Reader, Record, Table, columns_of
from freehold.data.text import read_text


def read(path: Path) -> Table:
    """The records of a JSON Lines file. Raises BadData naming the line."""
    lines = enumerate(read_text(path).split("\n"), 1)
    records = tuple((number, _decode(path, number, line)) for number, line in lines if line.strip())
    return Table(records, columns_of(record for _, record in records))


def _decode(path: Path, number: int, line: str) -> Record:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadData(f"{path} line {number} is not JSON: {error}", "Each line must be one whole object") from error
    if not isinstance(value, dict):
        raise BadData(f"{path} line {number} is not an object", 'Each line must be an object, as in {"prompt": "…"}')
    return value


def _likelihood(head: bytes, suffix: str) -> int:
    if suffix in (".jsonl", ".ndjson"):
        return 70
    return 50 if head.lstrip().startswith(b"{") else 0


READER = Reader("jsonl", _likelihood, read)
