"""Every row is asked once, every answer kept, and the evidence is the same each time."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import msgspec
import pytest

from freehold.core.digest import Digest
from freehold.core.errors import ContextOverflow, WorkerFailed
from freehold.core.event import Event, Failed, Finished, Started, Text, Timings, ToolCallPart, Usage
from freehold.core.request import Message, Request, Tool, ToolCall
from freehold.data import Row
from freehold.proofs.evaluate import Evaluation, evaluate
from freehold.proofs.facts import Fact

ROWS = [
    Row(
        (Message("system", "Be brief."), Message("user", f"What is {n}?"), Message("assistant", f"It is number {n}.")),
        n,
    )
    for n in range(8)
]
SUBJECT = Digest.of_bytes(b"model")


class Worker:
    """Answers with what `reply` says; counts how many answers it writes at once."""

    def __init__(self, reply: Callable[[int], list[Event]]) -> None:
        self.reply = reply
        self.requests: list[Request] = []
        self.busy = self.most = 0

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        self.busy += 1
        self.most = max(self.most, self.busy)
        number = int(request.messages[-1].content.split()[2].rstrip("?"))
        await asyncio.sleep(0.001 * (8 - number))
        for event in self.reply(number):
            yield event
        self.busy -= 1


def _right(number: int) -> list[Event]:
    text = f"It is number {number}."
    return [Started(), Text(text[:4]), Text(text[4:]), Finished("stop", Usage(10, 5), Timings(1, 100.0))]


def _ask(worker: Worker, **options: int) -> Evaluation:
    return asyncio.run(evaluate(worker, ROWS, max_tokens=32, **options))  # type: ignore[arg-type]


def test_right_answers() -> None:
    worker = Worker(_right)
    found = _ask(worker)
    assert found.mean("token_f1") == found.mean("exact_match") == 1
    assert [answer.question for answer in found.answers] == [f"What is {n}?" for n in range(8)]
    assert worker.most == 1
    assert found.speed.tokens_per_second == 50
    request = worker.requests[0]
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.sampling.temperature == 0
    assert request.max_tokens == 32


def test_several_at_once_keep_the_order_of_the_rows() -> None:
    worker = Worker(_right)
    found = _ask(worker, parallel=3)
    assert worker.most == 3
    assert found.answers == _ask(Worker(_right)).answers


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    asyncio.run(
        evaluate(Worker(_right), ROWS, max_tokens=8, on_progress=lambda done, total: told.append((done, total)))  # type: ignore[arg-type]
    )
    assert told == [(n, 8) for n in range(1, 9)]


def test_endings_are_counted() -> None:
    def reply(number: int) -> list[Event]:
        if number == 0:
            return [Failed(ContextOverflow("too long"))]
        return [Started(), Text("It is"), Finished("length" if number < 4 else "stop")]

    found = _ask(Worker(reply))
    assert (found.count("too_long"), found.count("length"), found.count("stop")) == (1, 3, 4)
    assert found.answers[0].answer == ""
    assert found.answers[0].token_f1 == 0
    facts = {fact.name: fact for fact in found.facts(SUBJECT)}
    assert facts["evaluation.questions_too_long"] == Fact(SUBJECT, "evaluation.questions_too_long", 1, "verified")
    assert facts["evaluation.rows"].value == 8
    assert facts["evaluation.token_f1"].value == pytest.approx(found.mean("token_f1"), abs=1e-6)


@pytest.mark.parametrize("events", [[Failed(WorkerFailed("the worker died"))], [Started(), Text("It")]])
def test_lost_answers_end_it(events: list[Event]) -> None:
    worker = Worker(lambda number: events if number == 3 else _right(number))
    with pytest.raises(WorkerFailed):
        _ask(worker, parallel=2)


def test_report_holds_all_answers_and_no_times() -> None:
    one, other = _ask(Worker(_right)), _ask(Worker(_right), parallel=4)
    assert one.report(SUBJECT, 32) == other.report(SUBJECT, 32)
    assert one.speed != other.speed
    report = msgspec.json.decode(one.report(SUBJECT, 32))
    assert report["kind"] == "evaluation"
    assert len(report["answers"]) == 8
    assert report["answers"][2]["reference"] == "It is number 2."
    assert report["answers"][2]["row"] == {"text": Digest.of_bytes(ROWS[2].encode()).text}
    assert {fact["subject"]["text"] for fact in report["facts"]} == {SUBJECT.text}


def test_a_call_is_an_answer_and_tools_are_offered() -> None:
    look = Tool("look", "", {"type": "object"})
    wanted = Message("assistant", "", (ToolCall("c1", "look", '{"who": "Ann", "now": true}'),))
    row = Row((Message("user", "What is 1?"), wanted), tools=(look,))

    def calls(number: int) -> list[Event]:
        parts = [
            ToolCallPart(0, "x", "look"),
            ToolCallPart(0, arguments='{"now":true,'),
            ToolCallPart(0, arguments='"who":"Ann"}'),
        ]
        return [Started(), *parts, Finished("tool_calls", Usage(5, 9), Timings(1, 10.0))]

    worker = Worker(calls)
    found = asyncio.run(evaluate(worker, [row], max_tokens=32))  # type: ignore[arg-type]
    [answer] = found.answers
    assert worker.requests[0].tools == (look,)
    assert answer.answer == answer.reference == 'look({"now":true,"who":"Ann"})'
    assert answer.exact_match == 1
