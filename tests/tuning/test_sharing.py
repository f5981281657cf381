"""Examples that processes share out: the same numbers, errors that are told, and nobody who stays behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from freehold.core.errors import NotEnoughMemory
from freehold.data.rows import write_rows
from freehold.tuning.decoder.common import Common
from freehold.tuning.heap import Heap
from freehold.tuning.job import Progress, Report, TrainJob, TrainResult, encode
from freehold.tuning.learning import Learner
from freehold.tuning.objectives import objectives
from freehold.tuning.objectives.base import Example
from freehold.tuning.render import Sample
from freehold.tuning.sharing import Crew, Learned, Share, shares
from freehold.tuning.trainer import Trainer
from tests.tuning.test_objectives import preferences

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
Jobs = Callable[..., TrainJob]


@pytest.mark.parametrize(
    ("tokens", "cores", "expected"),
    [
        ([10, 10], 2, [[0], [1]]),
        ([10, 10], 1, [[0, 1]]),
        ([10], 2, [[0]]),
        ([30, 10, 10, 10], 2, [[0], [1, 2, 3]]),
        ([90, 10], 2, [[0, 1]]),
        ([10, 20, 30, 40], 2, [[0, 3], [1, 2]]),
        ([10] * 3, 16, [[0, 1, 2]]),
        ([10] * 8, 4, [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ],
)
def test_examples_are_dealt_where_that_is_sooner_done(tokens: list[int], cores: int, expected: list[list[int]]) -> None:
    assert shares(tokens, cores) == expected


def test_no_more_shares_than_memory_is_for() -> None:
    assert len(shares([10] * 8, 6, 2)) == 1  # two of six cores are no faster than six together
    assert len(shares([10] * 8, 2, 1)) == 1


def double(share: Share) -> Learned:
    weight = WEIGHTS[0]
    loss = (weight * sum(example.label for example in share.examples)).sum() / share.whole
    if share.whole < 0:
        raise RuntimeError("not a weight" if os.getpid() == ASKING else "not enough memory: of one share")
    return loss.item(), torch.autograd.grad(loss, [weight]) if share.learning else ()


WEIGHTS = [torch.nn.Parameter(torch.ones(3))]
ASKING = os.getpid()


@pytest.fixture
def crew() -> Iterator[Crew]:
    global ASKING
    WEIGHTS[0], ASKING = torch.nn.Parameter(torch.ones(3)), os.getpid()
    threads = torch.get_num_threads()
    with Crew(2, 2, double, WEIGHTS, Heap(None), lambda pid: None, Common()) as made:
        yield made
    torch.set_num_threads(threads)


def parts(whole: float = 4.0, *, learning: bool = True) -> list[Share]:
    return [Share([Example((), number, label=label)], whole, learning, {}) for number, label in enumerate((1.0, 3.0))]


def test_the_sizes_of_a_step_are_those_of_its_shares(crew: Crew) -> None:
    rows = [Example((Sample(array("i", [1] * count), array("f", [1.0] * count), False),), 0) for count in (50, 33)]
    assert Learner(None, None, None, [], crew).sizes(rows) == [64, 48]
    assert Learner(None, None, None, [], None).sizes(rows) == [96]


def test_each_finds_what_the_others_changed(crew: Crew) -> None:
    for factor in (1.0, 2.0):
        with torch.no_grad():
            WEIGHTS[0].fill_(factor)
        (loss, [gradient]), (other, [second]) = crew.each(parts())
        assert (loss, other) == (3 * factor / 4, 9 * factor / 4)
        assert gradient.tolist() == [0.25] * 3
        assert second.tolist() == [0.75] * 3


def test_nothing_is_learned_where_nothing_is_asked(crew: Crew) -> None:
    assert crew.each(parts(learning=False)) == [(0.75, ()), (2.25, ())]


def test_an_error_here_leaves_no_answer_behind(crew: Crew) -> None:
    with pytest.raises(RuntimeError, match="not a weight"):
        crew.each(parts(-1.0))
    assert [loss for loss, _ in crew.each(parts())] == [0.75, 2.25]


def test_an_error_there_is_raised_here(crew: Crew) -> None:
    work = [parts()[0], parts(-1.0)[1]]
    with pytest.raises(MemoryError, match="of one share"):
        crew.each(work)
    assert [loss for loss, _ in crew.each(parts())] == [0.75, 2.25]


def test_what_no_process_can_be_forked_for_is_done_here(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    for _ in range(2):
        assert [loss for loss, _ in crew.each(parts())] == [0.75, 2.25]
    assert not crew._mates


def test_apart_is_the_mean_of_each_by_its_weight() -> None:
    known = {name for name, objective in objectives().items() if objective.apart}
    assert known == {"sft", "text", "tokens", "dpo", "classify"}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("objective", ["sft", "dpo"])
@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_shares_learn_what_the_whole_learns(job: Jobs, tmp_path: Path, objective: str, checkpointing: str) -> None:
    if objective == "dpo":
        write_rows(tmp_path / "pairs.jsonl", preferences(24))
    fields = {"train": tmp_path / "pairs.jsonl", "held_out": None} if objective == "dpo" else {}
    found = []
    for threads in (1, 2):
        asked = job(
            out=tmp_path / str(threads), objective=objective, steps=6, batch=6, threads=threads, dtype="f32",
            learning_rate=1e-2, checkpointing=checkpointing, **fields,
        )  # fmt: skip
        trainer = Trainer(asked, lambda report: None)
        result = trainer.run()
        assert isinstance(result, TrainResult)
        assert len(trainer.learner.crew._mates) == threads - 1
        found.append(result)
    alone, shared = found
    assert shared.losses == pytest.approx(alone.losses, abs=2e-4)
    assert shared.gradient_norms == pytest.approx(alone.gradient_norms, rel=2e-3)
    assert [point.loss for point in shared.held_out_losses] == pytest.approx(
        [point.loss for point in alone.held_out_losses], abs=2e-4
    )


@pytest.mark.usefixtures("restored")
def test_a_share_that_is_killed_ends_the_run_as_memory_that_ran_out(job: Jobs) -> None:
    trainer = Trainer(job(steps=50, batch=6, threads=2), lambda report: after(report))
    killed: list[int] = []

    def after(report: Report) -> None:
        if isinstance(report, Progress) and report.step == 2 and not killed:
            killed.append(trainer.learner.crew._mates[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(NotEnoughMemory, match="memory ran out"):
        trainer.run()
    assert killed


def test_shares_end_with_the_trainer_that_is_killed(job: Jobs, tmp_path: Path) -> None:
    asked = job(steps=100_000, batch=6, threads=2, held_out=None)
    asked.out.mkdir(parents=True, exist_ok=True)
    (tmp_path / "job.json").write_bytes(encode(asked))
    command = [sys.executable, "-m", "freehold.tuning.child", str(tmp_path / "job.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        while b'"step":3' not in trainer.stdout.readline():
            assert trainer.poll() is None
        children = psutil.Process(trainer.pid).children()
        trainer.kill()
    assert children
    assert all(gone(child) for child in children)


def gone(process: psutil.Process) -> bool:
    """Dead, though whoever inherited it has not looked yet."""
    for _ in range(50):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False
