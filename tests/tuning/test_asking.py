"""What a model says while it is trained: the same prompts each time, and nothing of training is changed by it."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from freehold.core.digest import Digest
from freehold.core.request import Message
from freehold.data.rows import AnyRow, Document, Row, write_rows
from freehold.tuning import asking, model
from freehold.tuning.asking import chosen
from freehold.tuning.job import Progress, Report, TrainJob, TrainResult
from freehold.tuning.trainer import Trainer
from tests.tuning.conftest import rows
from tests.tuning.test_objectives import judged, preferences, prompts, renderer

Jobs = Callable[..., TrainJob]
QUESTIONS = [row.messages[0].content for row in rows(3)]
pytestmark = pytest.mark.usefixtures("restored")


def ran(job: TrainJob) -> tuple[TrainResult, list[Progress]]:
    """What came out, and what was said where the held-out loss was measured."""
    said: list[Report] = []
    result = Trainer(job, said.append).run()
    assert isinstance(result, TrainResult)
    return result, [each for each in said if isinstance(each, Progress) and each.held_out_loss is not None]


def weights(result: TrainResult) -> Digest:
    return Digest.of_file(result.model / "adapter_model.safetensors")


def test_a_model_answers_where_its_held_out_loss_is_measured(job: Jobs, held_out_file: Path, base: Path) -> None:
    _, told = ran(job(evaluations=3))
    assert [each.step for each in told] == [0, 3, 6]
    asked = [row.messages[0].content for row in rows(30, seed=1)]
    for each in told:
        assert [sample.question for sample in each.samples] == list(dict.fromkeys(asked))[:3]
        assert all(0 < len(sample.answer) < 100 for sample in each.samples)


def test_the_weights_are_the_same_without_samples(job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, told = ran(job())
    monkeypatch.setattr(asking, "chosen", lambda rows, renderer: [])
    other, silent = ran(job(out=tmp_path / "other"))
    assert all(each.samples for each in told)
    assert not any(each.samples for each in silent)
    assert (weights(one), one.losses, one.held_out_losses) == (weights(other), other.losses, other.held_out_losses)


def test_a_run_that_goes_on_says_what_it_would_have_said(job: Jobs, tmp_path: Path) -> None:
    whole, told = ran(job())
    cut = job(out=tmp_path / "cut", checkpoint_seconds=1e-9)

    class Killed(Trainer):
        def _tell(self, state) -> None:  # type: ignore[no-untyped-def]
            if state.step == 4:
                raise KeyboardInterrupt
            super()._tell(state)

    said: list[Report] = []
    with pytest.raises(KeyboardInterrupt):
        Killed(cut, said.append).run()
    before = [each for each in said if isinstance(each, Progress) and each.samples]
    result, after = ran(cut)
    assert result.resumed == 1
    assert [each.step for each in before] == [0, 2]
    assert [each.step for each in after] == [4, 6]
    assert [each.samples for each in (*before, *after)] == [each.samples for each in told]
    assert weights(result) == weights(whole)


@pytest.mark.parametrize("made", [rows, preferences, judged, prompts])
def test_every_kind_of_prompt_is_asked_once(base: Path, made: Callable[[int], Sequence[AnyRow]]) -> None:
    found = chosen([each for each in made(3) for _ in range(2)], renderer(base))
    assert [each.question for each in found] == list(dict.fromkeys(QUESTIONS))
    tokenizer = model.tokenizer(base)
    for each in found:
        assert tokenizer.decode(list(each.ids), skip_special_tokens=False).endswith("<|im_start|>assistant\n")


def test_only_prompts_that_are_short_enough_are_asked(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = Row((Message("user", "and so on " * 30), Message("assistant", "Yes.")))
    none = Row((Message("assistant", "Hello."),))
    monkeypatch.setattr(asking, "_LONGEST", 60)
    assert [each.question for each in chosen([none, long, *rows(1)], renderer(base))] == QUESTIONS[:1]
    assert chosen([long], renderer(base)) == []


def test_a_text_is_gone_on_with_from_its_first_words(base: Path) -> None:
    texts = ["Ann has the key. Ben has the lamp. Cid has the map. " * 200, "Ann has it.", "A", ""]
    long, short, *_ = chosen([Document(text) for text in texts], renderer(base))
    assert texts[0].startswith(long.question)
    assert len(long.ids) == 16
    assert texts[1].startswith(short.question)
    assert 0 < len(short.ids) < 16


def test_who_measures_nothing_says_nothing(job: Jobs, held_out_file: Path) -> None:
    assert ran(job(evaluations=0, steps=1))[1] == []
    for fields in ({"evaluations": 0}, {"held_out": None}, {"probe": 1.0}):
        trainer = Trainer(job(**fields), lambda report: None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_load", lambda self: None)
            with ExitStack() as trainer.opened:
                trainer._prepare()
        assert trainer.material.asked == []


def test_the_speed_of_training_is_not_that_of_answers(job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def slow(self: asking.Asking) -> tuple[()]:
        clock[0] += 1000.0
        return ()

    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + clock[0])
    monkeypatch.setattr(asking.Asking, "answers", slow)
    result, _ = ran(job())
    assert clock[0] == 4000.0
    assert result.seconds < 1000.0


def test_samples_without_room_end_no_training(job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: asking.Asking) -> tuple[()]:
        raise RuntimeError("[enforce fail] not enough memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(asking.Asking, "answers", full)
    result, told = ran(job(steps=1, evaluations=2))
    assert [each.samples for each in told] == [(), ()]
    assert len(result.held_out_losses) == 2


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_other_numbers_answer_too(job: Jobs, dtype: str) -> None:
    _, told = ran(job(dtype=dtype, evaluations=1, steps=1))
    assert len(told[0].samples) == 3
    assert torch.is_grad_enabled()


def test_a_whole_model_answers_too(job: Jobs, tmp_path: Path) -> None:
    _, told = ran(job(method="full", evaluations=2, steps=1, learning_rate=1e-3))
    assert [len(each.samples) for each in told] == [3, 3]


@pytest.mark.parametrize("objective", ["text", "orpo", "kto", "grpo"])
def test_every_aim_at_text_is_shown(job: Jobs, tmp_path: Path, objective: str) -> None:
    made: list[AnyRow] = {
        "text": [Document("Ann has the key. Who has the key? Ann has it. " * 3) for _ in range(8)],
        "orpo": [*preferences(8)], "kto": [*judged(8)], "grpo": [*prompts(8)],
    }[objective]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    write_rows(path, made)
    more = {"rewards": ("regex:has",), "group": 2, "max_answer": 4} if objective == "grpo" else {}
    _, told = ran(job(objective=objective, train=path, held_out=path, steps=1, evaluations=1, batch=4, **more))
    assert told[0].samples
    assert all(sample.question for sample in told[0].samples)
