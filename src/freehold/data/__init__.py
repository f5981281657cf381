"""Data files to conversations, and conversations to two sides that share no question.

`load` reads CSV, JSON Lines, JSON and Parquet (readers/, one file each) and says what it assumed; `split` holds rows
out by content; `write_rows` and `read_rows` are the canonical file that the trainer and the evaluator read.
"""

from freehold.data.loading import MIN_ROWS, load
from freehold.data.rows import Dataset, Row, digest_rows, read_rows, write_rows
from freehold.data.splitting import Split, divide, sample, split

__all__ = [
    "MIN_ROWS",
    "Dataset",
    "Row",
    "Split",
    "digest_rows",
    "divide",
    "load",
    "read_rows",
    "sample",
    "split",
    "write_rows",
]
