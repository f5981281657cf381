"""Answers graded by a model: what it is asked, how its digits become a reward, and that it ends with the training."""

import math
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from freehold.core.errors import BadRecipe, ContextOverflow, WorkerFailed
from freehold.core.event import Event, Failed, Finished, Logprobs, Started, Text, TokenLogprob
from freehold.core.request import Message, Request
from freehold.core.settings import Settings
from freehold.data.rows import Prompt, write_rows
from freehold.engines.base import Fit, ModelFile, Told, nobody
from freehold.tuning.job import Judge, TrainJob
from freehold.tuning.judge import Grader
from freehold.tuning.rewards import Answer, rewards
from freehold.tuning.trainer import Trainer
from tests.tiny import write_gguf
from tests.tuning.conftest import rows

Jobs = Callable[..., TrainJob]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("judge") / "judge.gguf", context=1024)


def judge(path: Path) -> Judge:
    return Judge(name="owl", path=path, rubric="It is polite.")


@dataclass
class Owl:
    """An engine whose worker says what it was given to say."""

    events: list[Event]
    asked: list[Request] = field(default_factory=list)
    started: int = 0
    stopped: int = 0
    name: str = "owl"
    pid: int = 0
    context_length: int = 256

    def fits(self, model: ModelFile, settings: Settings) -> Fit:
        return Fit(1, 1, 1, 100, 256)

    async def start(self, model: ModelFile, settings: Settings, told: Told = nobody) -> Any:
        self.started += 1
        return self

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        for event in self.events:
            yield event

    async def stop(self) -> None:
        self.stopped += 1


def said(*tops: tuple[str, float], text: str = "7") -> list[Event]:
    top = tuple(TokenLogprob(token, math.log(chance)) for token, chance in tops)
    first = TokenLogprob(text, -1.0, top=top)
    return [Started(), Text(text), Logprobs((first,)), Finished("stop")]


def grade(engine: Any, *answers: Answer) -> list[float]:
    with Grader(judge(Path("owl.gguf")), Path("home"), 1, engine) as grader:
        return grader(answers)


def test_the_mean_of_the_likely_grades_is_the_reward():
    owl = Owl(said(("7", 0.4), ("2", 0.2), ("The", 0.3), ("12", 0.1)))
    assert grade(owl, Answer("q", "a", "")) == pytest.approx([(7 * 0.4 + 2 * 0.2) / 0.6 / 9])


def test_without_alternatives_it_is_what_was_said():
    assert grade(Owl(said(text="9")), Answer("q", "a", "")) == [1.0]
    assert grade(Owl(said(("no", 0.5), text="0")), Answer("q", "a", "")) == [0.0]


def test_of_two_spellings_of_a_digit_the_likelier_counts():
    assert grade(Owl(said(("3", 0.5), (" 3", 0.1), ("6", 0.5))), Answer("q", "a", "")) == pytest.approx([0.5])


def test_the_model_reads_rubric_question_and_answer_and_is_loaded_once():
    owl = Owl(said())
    grade(owl, Answer("Who?", "Ann {has} it", "Ann"), Answer("Where?", "here", ""))
    first, second = (request.messages[0].content for request in owl.asked)
    assert all(text in first for text in ("It is polite.", "Who?", "Ann {has} it", "A right answer:\nAnn"))
    assert "A right answer" not in second
    assert (owl.started, owl.stopped) == (1, 1)


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([Started(), Text("good"), Finished("stop")], WorkerFailed),
        ([Started(), Finished("stop")], WorkerFailed),
        ([Started(), Failed(ContextOverflow("too long"))], ContextOverflow),
    ],
)
def test_what_is_no_grade_is_an_error(events: list[Event], error: type[Exception]):
    owl = Owl(events)
    with pytest.raises(error):
        grade(owl, Answer("q", "a", ""))
    assert owl.stopped == 1


def test_it_joins_the_other_rewards():
    owl = Owl(said(text="9"))
    with Grader(judge(Path("owl.gguf")), Path("home"), 1, owl) as grader:
        assert rewards(["json", "judge"], Path(), grader)([Answer("q", "{}", "")]) == [2.0]
    with pytest.raises(BadRecipe, match="judge needs to know who grades"):
        rewards(["judge"], Path())


def test_a_real_model_grades_and_ends(file: Path, tmp_path: Path):
    answers = [Answer("Where is my order?", text, "") for text in ("Please help me, thank you.", "No.")]
    others = set(psutil.Process().children())
    with Grader(judge(file), tmp_path, 1) as grader:
        found = grader(answers)
        assert grader(answers) == pytest.approx(found, abs=0.01)
        [worker] = set(psutil.Process().children()) - others
    assert all(0 <= each <= 1 for each in found)
    assert found[0] != found[1]
    assert not worker.is_running()


@pytest.fixture
def handlers() -> Iterator[None]:
    """What the trainer changes of this process."""
    threads, kept = torch.get_num_threads(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), kept, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_model_learns_from_its_grades(job: Jobs, file: Path, tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    write_rows(path, [Prompt((Message("user", row.messages[0].content),), line) for line, row in enumerate(rows(4))])
    asked = job(
        objective="grpo", rewards=("judge",), judge=judge(file), train=path, held_out=path, steps=1, batch=1, group=2,
        max_answer=4, evaluations=1,
    )  # fmt: skip
    result = Trainer(asked, lambda report: None).run()
    [point] = result.held_out_losses
    assert -1 <= point.loss < 0
    assert not [
        child.cmdline() for child in psutil.Process().children() if "llamacpp/worker.py" in " ".join(child.cmdline())
    ]
