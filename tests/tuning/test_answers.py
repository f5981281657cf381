"""Answers that are drawn: what is planned for them is what they take, and parts of a step teach what the whole does."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from freehold.tuning import lora, memory, model
from freehold.tuning.job import Progress, TrainJob
from freehold.tuning.objectives import grpo
from freehold.tuning.objectives.base import Drawn, Example
from freehold.tuning.policy import Drawing, Policy
from freehold.tuning.render import Sample
from freehold.tuning.trainer import Trainer
from tests.tuning.test_objectives import Run, prompts, renderer, run, written

__all__ = ["run"]

Jobs = Callable[..., TrainJob]


@pytest.mark.parametrize(("batch_tokens", "most"), [(128, 128), (16, 61), (4096, 4 * 4 * 61)])
def test_memory_is_planned_for_the_answers_that_are_learned_from_at_once(
    job: Jobs, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_tokens: int, most: int
) -> None:
    planned, computed, plan, compared = [], [], memory.plan, Policy.compared

    def planning(shape: object, job: TrainJob, weights: int, tokens: int, *more: object, **named: object) -> object:
        planned.append(tokens)
        return plan(shape, job, weights, tokens, *more, **named)  # type: ignore[arg-type]

    def comparing(policy: Policy, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        computed.append(sum(len(sample.ids) for sample in samples))
        return compared(policy, samples)

    monkeypatch.setattr(memory, "plan", planning)
    monkeypatch.setattr(Policy, "compared", comparing)
    run(job(
        objective="grpo", rewards=("regex:[aeiou]",), train=written(tmp_path, prompts(4)), held_out=None, steps=1,
        batch=4, batch_tokens=batch_tokens, group=4, max_answer=16,
    ))  # fmt: skip
    assert len(planned) == 1
    assert most // 2 < max(computed) <= planned[0] <= most


class Once(Policy):
    """Answers are what they were before: a gradient does not change them."""

    def draw(self, example: Example) -> Drawn:
        found = super().draw(example)
        return Drawn(found.samples, torch.arange(len(found.samples)) + float(example.number))


def test_parts_of_a_step_teach_what_the_whole_does(base: Path) -> None:
    place = torch.device("cpu")
    decoder = model.load(base, place, torch.float32, full=False)
    trained = lora.attach(decoder.linears, 4, 2.0, 1, place)
    for name, value in trained.items():
        torch.nn.init.normal_(value.data, std=0.05, generator=torch.Generator().manual_seed(len(name)))
    policy = Once(decoder, place, 0.5)
    policy.drawing = Drawing(lambda answers: [0.0] * len(answers), str, frozenset([2]), 3, 12, 1.0, 1)
    examples = list(grpo.OBJECTIVE.examples(prompts(3), renderer(base)))
    found = []
    for tokens, count in ((1 << 20, 1), (150, 3), (16, 9)):
        losses = []
        for loss in grpo.parts(policy, examples, tokens):
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
        assert len(losses) == count
        found.append((sum(losses), [value.grad for value in trained.values()]))
        for value in trained.values():
            value.grad = None
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for one, other in zip(gradients, found[0][1], strict=True):
            assert one is not None
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_that_goes_on_measures_what_it_would_have(job: Jobs, run: Run, tmp_path: Path) -> None:
    path, fields = written(tmp_path, prompts(6)), {"evaluations": 4, "steps": 3, "batch": 3, "group": 3}
    asked = job(
        objective="grpo", rewards=("regex:[aeiou]", "regex:has"), train=path, held_out=path, max_answer=8, **fields
    )
    whole = run(asked)
    broken = job(**{key: getattr(asked, key) for key in asked.__struct_fields__} | {"out": tmp_path / "broken"})
    trainer = Trainer(broken, lambda report: None)
    trainer.say = lambda report: setattr(trainer, "stopping", isinstance(report, Progress) and report.step == 2)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    resumed = run(broken)
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    assert resumed.held_out_losses == whole.held_out_losses
