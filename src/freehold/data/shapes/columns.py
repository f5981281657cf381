"""A question and its answer a record, each in a column: CSV, prompt and completion, Alpaca."""

from collections.abc import Mapping

from freehold.core.errors import BadData
from freehold.core.request import Message
from freehold.data import columns as by_column
from freehold.data import conversations
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Row
from freehold.data.shapes import NO_ANSWER, SILENT, Look, Plan, Shape, tools_of, waiting


def _likelihood(look: Look) -> int:
    found = look.guess()
    if "user" not in found or "assistant" not in found or found["user"] == found["assistant"]:
        return 0
    return 97 if "assistant" in look.named and "label" not in look.named else 50


def _plan(look: Look) -> Plan:
    found = by_column.find(look.columns, look.named, look.counts)
    lists = [look.lists(found[role]) for role in ("user", "assistant")]
    if any(lists):
        return Plan(lambda record, line, log: _turns(record, found, look.named, line, log), found, conversations.TOOLS)

    def make(record: Record, line: int, log: Log) -> Row | None:
        messages = by_column.messages(record, found)
        if messages is None:
            by_column.elsewhere(record, found, look.named)
            log.empty(NO_ANSWER, line)
            return None
        return Row(messages, line)

    return Plan(make, found)


def _turns(record: Record, columns: dict[str, str], named: Mapping[str, str], line: int, log: Log) -> Row | None:
    """TRL's form: prompt and completion are lists of turns, or one of them is."""
    before = prompt_of(record, columns)
    answers = answer_of(record.get(columns["assistant"]), "completion")
    if not before or not any(map(conversations.says, answers)):
        by_column.elsewhere(record, columns, named)
        log.empty(NO_ANSWER, line)
        return None
    messages, weights = conversations.spoken(conversations.Turns((*before, *answers)))
    if weights:
        log.add("turns.silent", "kept", SILENT, line)
    return Row(messages, line, tools_of(record), weights=weights)


def prompt_of(record: Record, columns: dict[str, str]) -> tuple[Message, ...]:
    """The turns that wait for an answer, from a list or from text. Raises BadData."""
    value = record.get(columns["user"])
    if conversations.is_list(value):
        return waiting(conversations.turns(value, "prompt").messages)
    return by_column.opening(record, columns)


def answer_of(value: object, what: str) -> tuple[Message, ...]:
    """An assistant's turns, from a list, from one turn, or from text; none where it says nothing. Raises BadData."""
    if isinstance(value, dict):
        value = [value]
    if not conversations.is_list(value):
        text = by_column.text({what: value}, what)
        return (Message("assistant", text),) if text else ()
    messages = conversations.turns(value, what).messages
    if messages and (messages[0].role != "assistant" or messages[-1].role != "assistant"):
        raise BadData(f"has a {what} that does not begin and end with the assistant", "Move other turns to the prompt")
    return messages


SHAPE = Shape("columns", "chat", _likelihood, _plan)
