"""What is left out of a conversation, or cut off a text, that does not fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from freehold.core.request import EmbedRequest, Message, Request, ToolCall
from freehold.engines.base import ModelFile
from freehold.serving import fitting
from tests.serving.support import FakeEngine, FakeWorker, in_loop


def worker(context: int) -> FakeWorker:
    made = FakeWorker(FakeEngine(), ModelFile(Path("m"), "m"))
    made.context_length = context
    return made


def talk(*turns: tuple[Any, str], **fields: Any) -> Request:
    return Request(model="m", messages=tuple(Message(role, text) for role, text in turns), **fields)


LONG = talk(("system", "s s"), ("user", "a a a a"), ("assistant", "b b b b"), ("user", "c c c c"))


@pytest.mark.parametrize(
    ("context", "kept"), [(64, 4), (17, 4), (16, 3), (12, 3), (11, 2), (8, 2), (2, 2)]
)  # 14 words and a token before them; an eighth of the context is left to the answer
@in_loop
async def test_the_oldest_turns_go_first(context: int, kept: int):
    shorter = await fitting.conversation(worker(context), LONG)
    expected = LONG.messages[:1] + LONG.messages[len(LONG.messages) - kept + 1 :]
    assert shorter.messages == expected


@in_loop
async def test_room_is_left_for_the_answer_that_is_wanted():
    asked = talk(("user", "a a a a"), ("user", "b b b"), max_tokens=2)
    assert len((await fitting.conversation(worker(10), asked)).messages) == 2
    assert len((await fitting.conversation(worker(8), asked)).messages) == 1


@in_loop
async def test_an_answer_of_a_tool_goes_with_its_call():
    call = ToolCall("c", "weather", "{}")
    turns = (
        Message("user", "a a a a"),
        Message("assistant", "b b b b", tool_calls=(call,)),
        Message("tool", "c", tool_call_id="c"),
        Message("user", "d"),
    )
    shorter = await fitting.conversation(worker(6), Request(model="m", messages=turns))
    assert [message.role for message in shorter.messages] == ["user"]


class Ending(FakeWorker):
    """Its model wants a token at the end too."""

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        return [*await super().tokenize(text, special=special), *[9] * special]


@in_loop
async def test_texts_are_cut_between_the_models_own_tokens():
    for kind, expected in ((FakeWorker, (0, 1, 2, 3)), (Ending, (0, 1, 2, 9))):
        one = kind(FakeEngine(), ModelFile(Path("m"), "m"))
        one.context_length = 4
        inputs: Sequence[Any] = ("a bb ccc dddd", "a", (1, 2, 3, 4, 5, 6))
        cut = await fitting.texts(one, EmbedRequest(model="m", inputs=tuple(inputs)))
        assert cut.inputs == (expected, "a", (1, 2, 3, 4))
