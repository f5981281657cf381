"""A conversation a record: OpenAI's and Together's `messages`, ShareGPT's `conversations`."""

import msgspec

from freehold.data import conversations
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Row
from freehold.data.shapes import NO_ANSWER, SILENT, Look, Plan, Shape, headed, tools_of


def _likelihood(look: Look) -> int:
    return 80 if look.turns and not look.named else 0


def _plan(look: Look) -> Plan:
    key = look.turns

    def make(record: Record, line: int, log: Log) -> Row | None:
        return row(record, key, line, log, look)

    system = look.column("system", "system", "system prompt")
    return Plan(make, used=(key, *conversations.TOOLS, system), notes=(f"each row is a conversation ({key!r})",))


def row(record: Record, key: str, line: int, log: Log, look: Look) -> Row | None:
    """The conversation up to the assistant's last turn; None when the assistant says nothing. Raises BadData."""
    found = conversations.turns(record.get(key))
    messages = list(found.messages)
    while messages and (messages[-1].role != "assistant" or conversations.silent(messages[-1])):
        messages.pop()
    if not any(map(conversations.says, messages)):
        log.empty(NO_ANSWER, line)
        return None
    conversations.check_order(messages)
    if len(messages) < len(found.messages):
        log.add("turns", "cut", "conversation{s} {have} turns after the last answer: they are cut off", line)
    kept = conversations.Turns(tuple(messages), found.weights[: len(messages)])
    weights = conversations.spoken(kept).weights
    if weights != kept.weights:
        log.add("turns.silent", "kept", SILENT, line)
    answers = [weight for message, weight in zip(messages, weights, strict=False) if message.role == "assistant"]
    if answers and not any(answers):
        log.add("weights", "dropped", "conversation{s} with no answer of a weight over 0 {are} left out", line)
        return None
    before = headed(tuple(messages), record, look)
    weights = (*(1.0 for _ in range(len(before) - len(messages))), *weights) if weights else ()
    made = Row(before, line, tools_of(record))
    return msgspec.structs.replace(made, weights=weights) if set(answers) - {1.0} else made


SHAPE = Shape("conversations", "chat", _likelihood, _plan)
