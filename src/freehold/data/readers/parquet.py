"""Parquet, through pyarrow."""

from pathlib import Path

from freehold.core.errors import BadData, MissingExtra
from freehold.data.readers import Reader, Table
from freehold.data.text import read_bytes


def read(path: Path) -> Table:
    """The records of a Parquet file; their line is their number, from 1. Raises BadData, MissingExtra."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(f"{path} is a Parquet file: pyarrow reads it", "pip install 'freehold[tune]'") from error
    try:
        table = parquet.read_table(arrow.BufferReader(read_bytes(path)))
        records = tuple(enumerate(table.to_pylist(), 1))
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise BadData(f"{path} is no readable Parquet file: {error}", "Write it again, or give CSV or JSONL") from error
    return Table(records, tuple(table.column_names))


def _likelihood(head: bytes, suffix: str) -> int:
    return 100 if head.startswith(b"PAR1") or suffix == ".parquet" else 0


READER = Reader("parquet", _likelihood, read)
