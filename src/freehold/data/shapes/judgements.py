"""An answer and whether it is wanted: TRL's form for KTO, prompt, completion and label; messages and label."""

from typing import Any

from freehold.core.errors import BadData
from freehold.data import columns as by_column
from freehold.data import conversations
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Judged
from freehold.data.shapes import NO_ANSWER, Look, Plan, Shape, tools_of
from freehold.data.shapes.chat import row as chat_row
from freehold.data.shapes.columns import answer_of, prompt_of

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "1.0": True, "0.0": False}
"""The last two are pandas' in a column of which a value is missing."""


def _label(look: Look) -> str | None:
    return look.column("label", "label")


def _likelihood(look: Look) -> int:
    found = look.guess()
    asked = look.turns or ("user" in found and "assistant" in found)
    values = look.values(_label(look))
    return 94 if asked and values and all(_judgement(value) is not None for value in values) else 0


def _judgement(value: Any) -> bool | None:
    """Yes or no, however it is spelt; None for anything else."""
    return _WORDS.get(str(value).strip().lower())


def _plan(look: Look) -> Plan:
    key, label = look.turns, _label(look) or ""
    named = {role: column for role, column in look.named.items() if role != "label"}
    found = {} if key else by_column.find(look.columns, named, look.counts)

    def make(record: Record, line: int, log: Log) -> Judged | None:
        wanted = _judgement(record.get(label))
        if wanted is None:
            raise BadData(f"has the label {record.get(label)!r}", "A label is true or false")
        if key:
            row = chat_row(record, key, line, log, look)
            return Judged(row.messages, line, row.tools, label=wanted) if row else None
        before, answers = prompt_of(record, found), answer_of(record.get(found["assistant"]), "completion")
        if not before or not any(map(conversations.says, answers)):
            by_column.elsewhere(record, found, named)
            log.empty(NO_ANSWER, line)
            return None
        return Judged((*before, *answers), line, tools_of(record), label=wanted)

    system = look.column("system", "system", "system prompt")
    return Plan(make, {**found, "label": label}, (key, system, *conversations.TOOLS))


SHAPE = Shape("judgements", "judged", _likelihood, _plan)
