"""Data files to rows that are learned from, and rows to two sides that share no question.

load(path, …) -> Dataset      any file (readers/, one format each) in any form (shapes/, one each): rows of one kind,
                              what was assumed, and findings: what is wrong on which line, what was done about it
checks.examine(material)      more that is wrong with rows (checks/, one each), and their counts
divide, split, sample         rows held out by content
write_rows, read_rows, …      the canonical file (rows.py), which the trainer and the evaluator read
"""

from freehold.data.loading import MIN_ROWS, load
from freehold.data.rows import (
    AnyRow,
    Dataset,
    Row,
    as_chat,
    digest_rows,
    read_any,
    read_kind,
    read_rows,
    texts,
    write_rows,
)
from freehold.data.splitting import Split, divide, sample, split

__all__ = [
    "MIN_ROWS",
    "AnyRow",
    "Dataset",
    "Row",
    "Split",
    "as_chat",
    "digest_rows",
    "divide",
    "load",
    "read_any",
    "read_kind",
    "read_rows",
    "sample",
    "split",
    "texts",
    "write_rows",
]
