"""Parquet, through pyarrow."""

from pathlib import Path
from typing import Any

from freehold.core.errors import BadData, MissingExtra, TooLarge
from freehold.data.arrow import records
from freehold.data.readers import Reader, Table
from freehold.data.text import MAX_FILE, read_bytes

MAX_ROWS = 50_000_000
_INSTALL = "Run: pip install 'freehold[data]'"


def read(path: Path) -> Table:
    """The records of a Parquet file, each with its number, from 1. Raises BadData, MissingExtra, TooLarge."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(
            f"{path} is a Parquet file: pyarrow reads it", "Run: pip install 'freehold[data]'"
        ) from error
    try:
        content = arrow.py_buffer(read_bytes(path))
        _check_size(path, parquet.read_metadata(arrow.BufferReader(content)))
        table = parquet.read_table(arrow.BufferReader(content))
        found = tuple(enumerate(records(path, table), 1))
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise BadData(f"{path} is no readable Parquet file: {error}", "Write it again, or give CSV or JSONL") from error
    return Table(found, tuple(table.column_names), unit="row")


def _check_size(path: Path, metadata: Any) -> None:
    """By what the file says of itself: a few bytes can stand for very many rows."""
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if size > MAX_FILE or metadata.num_rows > MAX_ROWS:
        raise TooLarge(
            f"{path} unpacks to {size:,} bytes in {metadata.num_rows:,} rows",
            f"Split it: at most {MAX_FILE:,} bytes in {MAX_ROWS:,} rows are read",
        )


def _likelihood(head: bytes, suffix: str) -> int:
    return 100 if head.startswith(b"PAR1") or suffix == ".parquet" else 0


READER = Reader("parquet", _likelihood, read)
