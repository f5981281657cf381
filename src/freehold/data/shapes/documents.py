"""A text a record: what language is learned from. Plain text, Markdown and PDF come as such."""

from freehold.data import columns as by_column
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Document
from freehold.data.shapes import Look, Plan, Shape

_NAMES = ("text", "content", "document")


def _likelihood(look: Look) -> int:
    if look.named:
        return 70 if set(look.named) == {"text"} else 0
    column = by_column.first(look.columns, _NAMES, look.counts)
    if column is None:
        return 0
    return 60 if len(look.columns) == 1 else 20 * (column == "text" or look.kind == "text")


def _plan(look: Look) -> Plan:
    column = look.column("text", *_NAMES) or ""

    def make(record: Record, line: int, log: Log) -> Document | None:
        text = by_column.text(record, column)
        if not text:
            log.empty("place{s} without text", line)
            return None
        return Document(text, line)

    return Plan(make, {} if column == "text" else {"text": column}, (column,), ("each row is a text",))


SHAPE = Shape("documents", "text", _likelihood, _plan)
