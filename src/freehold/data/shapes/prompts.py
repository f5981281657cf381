"""A question a record, with or without what a right answer says: for learning by reward."""

from freehold.data import columns as by_column
from freehold.data import conversations
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Prompt
from freehold.data.shapes import Look, Plan, Shape, headed, tools_of, waiting
from freehold.data.shapes.columns import prompt_of

_REFERENCES = ("reference", "solution", "ground truth", "reference answer", "final answer")


def _asked(look: Look) -> str | None:
    return look.column("user", "prompt") or look.guess().get("user")


def _reference(look: Look) -> str | None:
    found = look.guess().get("assistant")
    return look.column("reference", *_REFERENCES) or found


def _likelihood(look: Look) -> int:
    """A prompt with an answer is a conversation, unless somebody wants to learn by reward."""
    if look.kind == "prompt":
        return 50 if look.turns or _asked(look) else 0
    alone = "assistant" not in look.guess()
    return 45 if by_column.first(look.columns, ("prompt",)) and alone and not look.turns else 0


def _plan(look: Look) -> Plan:
    key = look.turns
    asked, reference = key or _asked(look) or "", _reference(look)
    found = {**look.guess(), "user": asked}
    roles = {"user": asked, **({"reference": reference} if reference else {})}

    def make(record: Record, line: int, log: Log) -> Prompt | None:
        answer = by_column.text(record, reference)
        if key:
            messages = conversations.turns(record.get(key)).messages
            if messages and messages[-1].role == "assistant" and not reference:
                answer, messages = messages[-1].content, messages[:-1]
            before = waiting(headed(messages, record, look)) if messages else ()
        else:
            before = prompt_of(record, found)
        if not before:
            log.empty("row{s} without a prompt", line)
            return None
        return Prompt(before, line, tools_of(record), "", answer)

    used = (key, found.get("system"), found.get("input"), *conversations.TOOLS)
    return Plan(make, {} if key else roles, used)


SHAPE = Shape("prompts", "prompt", _likelihood, _plan)
