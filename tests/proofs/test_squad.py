"""The metrics beside SQuAD's own script, and evaluations whose figures are worked out by hand."""

import asyncio
import re
import string
from collections import Counter
from collections.abc import AsyncGenerator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import Busy, FreeholdError, Timeout
from freehold.core.event import Event, Failed, Finished, Text, Timings, Usage
from freehold.core.request import Message, Request
from freehold.data import Row
from freehold.proofs.evaluate import Evaluation, Speed, evaluate
from freehold.proofs.metrics import exact_match, normalise, token_f1

SUBJECT = Digest.of_bytes(b"model")
ASCII = st.lists(st.sampled_from(["a", "The", "cat", "cat.", "Dog,", "an", "sat", "'tis", "then", "--", ""])).map(
    " ".join
)


def _squad_normal(text: str) -> str:
    """normalize_answer of the evaluation script of SQuAD 1.1, which knows ASCII punctuation only."""
    kept = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def _squad_f1(answer: str, reference: str) -> float:
    """f1_score of the same script."""
    ours, theirs = _squad_normal(answer).split(), _squad_normal(reference).split()
    same = sum((Counter(ours) & Counter(theirs)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


@given(ASCII, ASCII)
def test_words_in_ascii_score_as_in_squad(answer: str, reference: str) -> None:
    assert normalise(answer) == _squad_normal(answer)
    assert exact_match(answer, reference) == float(_squad_normal(answer) == _squad_normal(reference))
    if normalise(answer) and normalise(reference):
        assert token_f1(answer, reference) == pytest.approx(_squad_f1(answer, reference))


@given(st.text(max_size=40), st.text(max_size=40))
def test_the_laws_hold_for_any_text(one: str, other: str) -> None:
    assert normalise(normalise(one)) == normalise(one)
    assert 0 <= token_f1(one, other) == token_f1(other, one) <= 1
    assert exact_match(one, other) <= token_f1(one, other)
    assert token_f1(one, one) == exact_match(one, one) == 1
    if not set(normalise(one).split()) & set(normalise(other).split()):
        assert token_f1(one, other) == float(normalise(one) == normalise(other))


def test_words_in_another_order_are_found_but_no_match() -> None:
    assert token_f1("four at close we", "We close at four") == 1
    assert exact_match("four at close we", "We close at four") == 0


class Scripted:
    """A worker that answers each question from a table."""

    def __init__(self, replies: dict[str, list[Event]]) -> None:
        self.replies = replies
        self.asked: list[Request] = []

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        for event in self.replies[request.messages[-1].content]:
            yield event


def _row(question: str, answer: str) -> Row:
    return Row((Message("user", question), Message("assistant", answer)))


def _said(text: str, tokens: int, milliseconds: float) -> list[Event]:
    return [Text(text), Finished("stop", Usage(3, tokens), Timings(1, milliseconds))]


def _evaluate(worker: Scripted, rows: list[Row], parallel: int = 1) -> Evaluation:
    return asyncio.run(evaluate(worker, rows, max_tokens=8, parallel=parallel))  # type: ignore[arg-type]


def test_the_figures_of_three_answers_worked_out_by_hand() -> None:
    worker = Scripted(
        {
            "1?": _said(" The cat sat. \n", 4, 100.0),  # both words of two: f1 1, exact
            "2?": _said("a dog sat down", 5, 200.0),  # one of three and one of two: f1 2/5
            "3?": _said("", 0, 0.0),
        }
    )
    rows = [_row("1?", "cat sat"), _row("2?", "cat sat"), _row("3?", "…")]
    found = _evaluate(worker, rows)
    assert [answer.token_f1 for answer in found.answers] == [1.0, 0.4, 1.0]
    assert [answer.exact_match for answer in found.answers] == [1.0, 0.0, 1.0]
    assert found.answers[0].answer == "The cat sat."
    facts = {fact.name.partition(".")[2]: fact.value for fact in found.facts(SUBJECT)}
    assert facts == {
        "rows": 3,
        "token_f1": 0.8,
        "exact_match": 0.666667,
        "answers_cut": 0,
        "questions_too_long": 0,
    }
    assert found.speed.tokens_per_second == pytest.approx(30.0)
    assert found.speed.completion_tokens == 9


def test_no_time_measured_is_no_speed() -> None:
    assert Speed(completion_tokens=10).tokens_per_second == 0.0


@pytest.mark.parametrize("error", [Busy("full", "Wait"), Timeout("slow", "Wait")])
@pytest.mark.parametrize("parallel", [1, 2])
def test_what_a_worker_fails_with_is_what_the_caller_sees(error: FreeholdError, parallel: int) -> None:
    worker = Scripted({"1?": [Failed(error)], "2?": _said("x", 1, 1.0)})
    with pytest.raises(type(error)) as caught:
        _evaluate(worker, [_row("1?", "x"), _row("2?", "x")], parallel)
    assert caught.value is error


def test_a_question_is_the_last_thing_that_the_user_said_and_all_before_is_asked_too() -> None:
    turns = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Who?"), Message("assistant", "Ann"))
    worker = Scripted({"Who?": _said("Ann", 1, 1.0)})
    [answer] = _evaluate(worker, [Row(turns)]).answers
    assert (answer.question, answer.reference, answer.exact_match) == ("Who?", "Ann", 1.0)
    assert worker.asked[0].messages == turns[:-1]
    assert answer.row == Digest.of_bytes(Row(turns).encode())


def test_a_report_says_how_long_answers_could_be_and_is_canonical() -> None:
    found = _evaluate(Scripted({"1?": _said("x", 1, 1.0)}), [_row("1?", "x")])
    report = found.report(SUBJECT, 8)
    content = msgspec.json.decode(report)
    assert content["max_tokens"] == 8
    assert msgspec.json.encode(content, order="sorted") == report
    assert found.report(SUBJECT, 9) != report
