"""A wanted answer and one that is not: OpenAI's and Together's form, TRL's with and without a prompt, transcripts."""

import re
from collections.abc import Sequence
from typing import Any

from freehold.core.errors import BadData
from freehold.core.request import Message, Tool
from freehold.data import columns as by_column
from freehold.data import conversations
from freehold.data.findings import Log
from freehold.data.readers import Record
from freehold.data.rows import Preference
from freehold.data.shapes import Look, Plan, Shape, headed, tools_of, waiting
from freehold.data.shapes.columns import answer_of

_OPENAI = ("input", "preferred_output", "non_preferred_output")
_SPOKEN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
"""How Anthropic's preference data sets write conversations."""
_REMEDY = 'Give a prompt, as in {"prompt": "…", "chosen": "…", "rejected": "…"}'
Messages = tuple[Message, ...]


def _likelihood(look: Look) -> int:
    if all(name in look.columns for name in _OPENAI):
        return 95
    return 92 if look.column("chosen", "chosen") and look.column("rejected", "rejected") else 0


def _plan(look: Look) -> Plan:
    if all(name in look.columns for name in _OPENAI):
        note = "each row is an input with a preferred output and one that is not"
        return Plan(_openai, used=(*_OPENAI, *conversations.TOOLS), notes=(note,))
    chosen, rejected = look.column("chosen", "chosen") or "", look.column("rejected", "rejected") or ""
    key = look.turns
    found = {role: name for role, name in look.guess().items() if role != "assistant"}
    asked = found.get("user")

    def make(record: Record, line: int, log: Log) -> Preference | None:
        given = _from_lists(record.get(chosen), record.get(rejected))
        if given is None:
            given = _prompt(record, key, found), *_answers(record.get(chosen), record.get(rejected))
        before, *answers = given
        return _row(headed(before, record, look), answers, tools_of(record), line, log)

    roles = {"chosen": chosen, "rejected": rejected} if chosen != "chosen" or rejected != "rejected" else {}
    used = (key, chosen, rejected, asked, *conversations.TOOLS)
    note = f"{chosen!r} holds the answer that is wanted, {rejected!r} one that is not"
    return Plan(make, {**({} if key else found), **roles}, used, (note,))


def _openai(record: Record, line: int, log: Log) -> Preference | None:
    given = record.get("input")
    if not isinstance(given, dict):
        raise BadData("has an input that is no object", 'Give {"input": {"messages": […]}, …}')
    before = waiting(conversations.turns(given.get("messages"), "input").messages)
    sides = answer_of(record.get(_OPENAI[1]), _OPENAI[1]), answer_of(record.get(_OPENAI[2]), _OPENAI[2])
    return _row(before, sides, tools_of(given) or tools_of(record), line, log)


def _row(
    before: Messages, sides: Sequence[Messages], tools: tuple[Tool, ...], line: int, log: Log
) -> Preference | None:
    chosen, rejected = sides
    if not before or not any(map(conversations.says, chosen)) or not any(map(conversations.says, rejected)):
        log.empty("row{s} without a prompt or one of the two answers", line)
        return None
    if chosen == rejected:
        log.add("same", "dropped", "row{s} whose two answers are the same {are} left out", line)
        return None
    return Preference(before, line, tools, chosen=chosen, rejected=rejected)


def _prompt(record: Record, key: str | None, columns: dict[str, str]) -> Messages:
    """The turns before both answers. Raises BadData where nothing tells them."""
    column = key or columns.get("user")
    if column is None:
        raise BadData("has answers without a prompt", _REMEDY)
    value = record.get(column)
    if conversations.is_list(value):
        return waiting(conversations.turns(value, "prompt").messages)
    return by_column.opening(record, columns)


def _from_lists(chosen: Any, rejected: Any) -> tuple[Messages, Messages, Messages] | None:
    """Prompt and answers where both sides are whole conversations: what they share is the prompt. Raises BadData."""
    sides = [_whole(side) for side in (chosen, rejected)]
    first, second = sides
    if first is None or second is None or first[0].role == second[0].role == "assistant":
        return None
    shared = 0
    while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
        shared += 1
    while shared and first[shared - 1].role == "assistant":
        shared -= 1
    if not shared:
        raise BadData("has two conversations that begin differently", _REMEDY)
    if {first[shared].role, second[shared].role, first[-1].role, second[-1].role} != {"assistant"}:
        raise BadData("has two conversations that differ before the answer", "Both must have the same prompt")
    return waiting(first[:shared]), first[shared:], second[shared:]


def _answers(chosen: Any, rejected: Any) -> tuple[Messages, Messages]:
    """Both answers, without the mark of who speaks where both begin with it. Raises BadData."""
    spoken = [_transcript(side) if isinstance(side, str) else None for side in (chosen, rejected)]
    first, second = spoken
    if first and second and {each.role for side in (first, second) for each in (side[0], side[-1])} == {"assistant"}:
        return first, second
    return answer_of(chosen, "chosen"), answer_of(rejected, "rejected")


def _whole(side: Any) -> Messages | None:
    """A conversation with its prompt; None for an answer alone."""
    if isinstance(side, str):
        return _transcript(side)
    if not conversations.is_list(side) or not side:
        return None
    messages = conversations.turns(side).messages
    return None if messages[0].role == "assistant" else messages


def _transcript(text: str) -> Messages | None:
    parts = _SPOKEN.split(text)
    if len(parts) < 3 or parts[0].strip():
        return None
    spoken = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message("user" if who == "Human" else "assistant", by_column.trimmed(said)) for who, said in spoken)


SHAPE = Shape("preferences", "preference", _likelihood, _plan)
