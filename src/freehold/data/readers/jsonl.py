"""JSON Lines: one object a line."""

from pathlib import Path

import msgspec

from freehold.core.errors import BadData
from freehold.data.readers import Reader, Record, Table, columns_of, counted, parted
from freehold.data.text import read_text


def read(path: Path) -> Table:
    """The records of a JSON Lines file."""
    records, faults = parted(counted(read_text(path).split("\n")), _decode)
    return Table(records, columns_of(records), faults=faults)


def _decode(line: str) -> Record:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadData(f"is not JSON: {error}", "Each line must be one whole object") from error
    if not isinstance(value, dict):
        raise BadData("is not an object", 'Each line must be an object, as in {"prompt": "…"}')
    return value


def _likelihood(head: bytes, suffix: str) -> int:
    if suffix in (".jsonl", ".ndjson"):
        return 70
    return 50 if head.lstrip().startswith(b"{") else 0


READER = Reader("jsonl", _likelihood, read)
