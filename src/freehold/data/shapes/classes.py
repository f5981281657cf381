"""A text and its class a record: for classifiers."""

from freehold.data import columns as by_column
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Labelled
from freehold.data.shapes import Look, Plan, Shape

_TEXTS = ("text", "sentence", "utterance", "document", "content")
_LABELS = ("label", "class", "category", "intent", "sentiment", "topic")


def _likelihood(look: Look) -> int:
    if set(look.named) == {"text", "label"}:
        return 96
    text, label = look.column("text", *_TEXTS), look.column("label", *_LABELS)
    return 0 if text is None or label is None or text == label else 40


def _plan(look: Look) -> Plan:
    found = {"text": look.column("text", *_TEXTS) or "", "label": look.column("label", *_LABELS) or ""}

    def make(record: Record, line: int, log: Log) -> Labelled | None:
        text, label = by_column.text(record, found["text"]), by_column.text(record, found["label"]).strip()
        if not text or not label:
            log.empty("row{s} without text or class", line)
            return None
        return Labelled(text, label, line)

    return Plan(make, found)


SHAPE = Shape("classes", "labelled", _likelihood, _plan)
