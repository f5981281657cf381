"""Tuning beside the plain way: transformers' own model, PEFT's adapter, torch's optimiser, one row at a time."""

import signal
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from freehold.core.errors import NotEnoughMemory
from freehold.data.rows import Row, read_rows, write_rows
from freehold.tuning import memory, model
from freehold.tuning.batches import batches, schedule
from freehold.tuning.job import TrainJob, TrainResult
from freehold.tuning.render import Renderer, Sample
from freehold.tuning.trainer import Trainer
from tests.tuning.conftest import rows

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # PEFT calls what transformers renames
Run = Callable[[TrainJob], TrainResult]
Jobs = Callable[..., TrainJob]


@pytest.fixture
def run() -> Iterator[Run]:
    """The trainer in this process, which gets its signals and torch's settings back."""
    threads, handlers = torch.get_num_threads(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    yield lambda job: Trainer(job, lambda report: None).run()
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
        signal.signal(number, handler)


def samples(job: TrainJob, path: Path) -> list[Sample]:
    assert job.base
    template, names = model.chat_template(job.base)
    renderer = Renderer(
        model.tokenizer(job.base), template, max_length=job.max_length, prompt_weight=job.prompt_weight, **names
    )
    return list(renderer.samples([row.messages for row in read_rows(path)]))


def lengths(made: list[Sample]) -> list[int]:
    return [len(sample.ids) for sample in made]


def plain(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def mean_loss(network: Any, chosen: list[Sample]) -> torch.Tensor:
    """Weighted cross-entropy per unit of weight, each row by itself and with all of its logits."""
    total, weight = torch.zeros(()), 0.0
    for sample in chosen:
        ids, weights = torch.tensor(sample.ids), torch.tensor(sample.weights)[1:]
        logits = network(input_ids=ids[None]).logits[0, :-1]
        total = total + (cross_entropy(logits, ids[1:], reduction="none") * weights).sum()
        weight += float(weights.sum())
    return total / weight


def reference(network: Any, job: TrainJob) -> list[float]:
    """The losses of a run with AdamW, gradients clipped to 1, and a rate that rises and falls in straight lines."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(trained, lr=1.0, betas=(0.9, 0.95), weight_decay=job.weight_decay)
    made, losses = samples(job, job.train), []
    rise = round(job.steps * job.warmup)
    order = schedule(lengths(made), job.batch_tokens, job.seed)
    for step, batch in enumerate(islice(order, job.steps)):
        share = (step + 1) / rise if step < rise else (job.steps - step) / (job.steps - rise)
        adam.param_groups[0]["lr"] = job.learning_rate * share
        adam.zero_grad()
        loss = mean_loss(network, [made[index] for index in batch])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("prompt_weight", [0.0, 0.25])
def test_full_tuning_has_the_losses_of_plain_torch(job: Jobs, base: Path, run: Run, prompt_weight: float) -> None:
    asked = job(
        method="full", steps=6, warmup=0.5, weight_decay=0.1, learning_rate=1e-3, batch_tokens=200,
        prompt_weight=prompt_weight, held_out=None,
    )  # fmt: skip
    assert run(asked).losses == pytest.approx(reference(plain(base), asked), rel=2e-4)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_has_the_losses_of_one_in_peft(job: Jobs, base: Path, run: Run, tmp_path: Path, method: str) -> None:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    from freehold.tuning import lora

    asked = job(method=method, steps=6, warmup=0.5, batch_tokens=200, held_out=None, rank=4, alpha=6.0)
    cpu = torch.device("cpu")
    start = model.load(base, cpu, torch.float32, full=False)
    halves = lora.attach(start.linears, asked.rank, asked.alpha / asked.rank, asked.seed, cpu, dora=method == "dora")
    lora.save(halves, tmp_path / "start", method=method, rank=asked.rank, alpha=asked.alpha, base="base")
    theirs = PeftModel.from_pretrained(plain(base), tmp_path / "start", is_trainable=True)
    result = run(asked)
    assert result.losses == pytest.approx(reference(theirs, asked), rel=2e-4)
    ours = load_file(result.model / "adapter_model.safetensors")
    found = get_peft_model_state_dict(theirs, save_embedding_layers=False)
    assert ours.keys() == found.keys()
    for name, value in found.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-4)
    assert result.trainable == sum(parameter.numel() for parameter in theirs.parameters() if parameter.requires_grad)


def test_the_held_out_loss_is_that_of_the_untouched_base(job: Jobs, base: Path, run: Run) -> None:
    found = [run(job(steps=1, batch_tokens=tokens, prompt_weight=0.5)) for tokens in (64, 1000)]
    with torch.no_grad():
        wanted = mean_loss(plain(base), samples(job(prompt_weight=0.5), job().held_out)).item()
    for result in found:
        assert result.held_out_losses[0].step == 0
        assert result.held_out_losses[0].loss == pytest.approx(wanted, rel=1e-4)


def test_the_held_out_loss_at_the_end_is_that_of_the_model_that_comes_out(job: Jobs, run: Run) -> None:
    asked = job(method="full", steps=4, learning_rate=1e-2, batch_tokens=200)
    result = run(asked)
    with torch.no_grad():
        after = mean_loss(plain(result.model), samples(asked, asked.held_out)).item()
    # What comes out is rounded to bfloat16.
    assert result.held_out_losses[-1].loss == pytest.approx(after, rel=0.02)
    assert abs(after - result.held_out_losses[0].loss) > 0.05


def test_tokens_are_counted_as_they_are_seen(job: Jobs, run: Run) -> None:
    asked = job(steps=5, batch_tokens=150, held_out=None)
    result, made = run(asked), samples(asked, asked.train)
    seen = [made[index] for batch in islice(schedule(lengths(made), 150, asked.seed), 5) for index in batch]
    assert result.tokens == sum(len(sample.ids) for sample in seen)
    assert result.supervised_tokens == sum(sum(sample.weights[1:]) for sample in seen)
    assert (result.rows, result.rows_cut, result.rows_dropped) == (200, 0, 0)


def test_answers_that_count_for_less_are_learned_and_counted(job: Jobs, run: Run, tmp_path: Path) -> None:
    halves = [Row(row.messages, row.line, weights=(0.0, 0.5)) for row in rows(20)]
    write_rows(tmp_path / "halves.jsonl", halves)
    write_rows(tmp_path / "wholes.jsonl", rows(20))
    fields = {"steps": 1, "held_out": None}
    wanted = run(job(train=tmp_path / "wholes.jsonl", out=tmp_path / "a", **fields)).supervised_tokens
    assert wanted
    assert run(job(train=tmp_path / "halves.jsonl", out=tmp_path / "b", **fields)).supervised_tokens == wanted
    prompts = job(train=tmp_path / "wholes.jsonl", out=tmp_path / "c", prompt_weight=1.0, **fields)
    assert run(prompts).supervised_tokens == wanted


@pytest.mark.parametrize(("epochs", "share"), [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (1e-9, 0.0)])
def test_epochs_become_steps(job: Jobs, run: Run, tmp_path: Path, epochs: float, share: float) -> None:
    path = tmp_path / "few.jsonl"
    write_rows(path, rows(16))
    asked = job(train=path, held_out=None, steps=0, epochs=epochs, batch_tokens=100)
    per_epoch = len(batches(lengths(samples(asked, path)), 100, asked.seed, 0))
    assert run(asked).steps == max(1, round(share * per_epoch))


def test_weights_that_are_lost_end_it_with_an_error_and_not_with_a_model(job: Jobs, run: Run) -> None:
    from freehold.core.errors import WorkerFailed

    class Diverged(Trainer):
        """One whose weights are lost on the way."""

        def _step(self, samples, step: int) -> float:
            if step == 2:
                next(iter(self.trained.values())).data.fill_(float("nan"))
            return super()._step(samples, step)

    with pytest.raises(WorkerFailed, match="not a number at step 2") as caught:
        Diverged(job(held_out=None), lambda report: None).run()
    assert "learning_rate" in caught.value.remedy
    assert not (job().out / "adapter").exists()


def test_a_row_of_its_own_is_what_it_is_in_a_crowd(job: Jobs, base: Path, run: Run, tmp_path: Path) -> None:
    """One row repeated has the loss of that row, however many share a step."""
    path = tmp_path / "same.jsonl"
    [row] = rows(1)
    write_rows(path, [Row(row.messages)] * 12)
    found = [run(job(out=tmp_path / str(n), train=path, held_out=None, steps=1, batch_tokens=n)) for n in (40, 900)]
    with torch.no_grad():
        wanted = mean_loss(plain(base), samples(job(), path)[:1]).item()
    assert [result.losses[0] for result in found] == pytest.approx([wanted, wanted], rel=1e-4)


def test_an_adapter_of_rslora_has_the_losses_of_one_in_peft(job: Jobs, base: Path, run: Run) -> None:
    from peft import PeftModel

    asked = job(method="rslora", steps=4, warmup=0.5, batch_tokens=200, held_out=None, rank=4, alpha=6.0)
    result = run(asked)
    theirs = PeftModel.from_pretrained(plain(base), result.model)
    merged = theirs.merge_and_unload()
    again = run(job(method="lora", steps=4, warmup=0.5, batch_tokens=200, held_out=None, rank=4, alpha=12.0))
    assert again.losses == pytest.approx(result.losses)  # 6 / sqrt(4) is 12 / 4
    with torch.no_grad():
        assert mean_loss(merged, samples(asked, asked.train)) < mean_loss(plain(base), samples(asked, asked.train))


def test_a_row_is_a_step_where_the_batch_is_one(job: Jobs, run: Run) -> None:
    asked = job(steps=5, batch=1, batch_tokens=4096, held_out=None)
    made = samples(asked, asked.train)
    order = islice(schedule(lengths(made), 4096, asked.seed, 1), 5)
    assert run(asked).tokens == sum(len(made[index].ids) for [index] in order)


def test_checkpointing_changes_no_bit(job: Jobs, run: Run) -> None:
    kept, again = (run(job(steps=4, checkpointing=switch)) for switch in ("off", "on"))
    assert (kept.checkpointing, again.checkpointing) == (False, True)
    assert kept.losses == again.losses


def test_patience_ends_it_early_with_the_best_weights(job: Jobs, run: Run) -> None:
    asked = job(steps=40, method="full", learning_rate=0.05, evaluations=21, patience=3, warmup=0.0)
    result = run(asked)
    losses = [point.loss for point in result.held_out_losses]
    assert result.steps < 40
    assert losses[-4] == min(losses)
    assert result.best_step == result.held_out_losses[-4].step
    with torch.no_grad():
        after = mean_loss(plain(result.model), samples(asked, asked.held_out)).item()
    assert after == pytest.approx(min(losses), rel=0.05)


def test_a_job_above_memory_is_refused_with_numbers(job: Jobs, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 100 << 20

    monkeypatch.setattr(memory.psutil, "virtual_memory", Memory)
    with pytest.raises(NotEnoughMemory, match=r"needs about \d+ MB and 100 MB are free"):
        run(job())
    assert not list(job().out.glob("*"))


def test_steps_are_planned_for_a_time(job: Jobs, run: Run) -> None:
    few, many = (run(job(steps=0, seconds=limit, batch_tokens=64, held_out=None)) for limit in (0.5, 4.0))
    assert 1 <= few.steps < many.steps


def test_a_training_that_gets_slower_ends_with_what_it_has(
    job: Jobs, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freehold.tuning import planning

    monkeypatch.setattr(planning, "steps_within", lambda *_: 100_000)
    done = run(job(steps=0, seconds=2.0, batch_tokens=64))
    assert (done.cut, done.planned) == ("time", 100_000)
    assert done.held_out_losses[-1].step == done.steps < 100_000
    assert done.seconds < 4


def test_a_plan_changes_nothing_and_knows_the_work(job: Jobs, run: Run, base: Path) -> None:
    from freehold.tuning.job import TrainPlan

    asked = job(probe=0.3, steps=7, batch_tokens=200)
    found = run(asked)
    assert isinstance(found, TrainPlan)
    assert found.steps == 7
    done = run(job(steps=7, batch_tokens=200))
    assert found.tokens == done.tokens
    assert found.peak_private > 0
    assert found.seconds > found.tokens / found.tokens_per_second  # looks at held-out rows take time too
    timed = run(job(probe=0.3, steps=0, seconds=5.0, batch_tokens=64))
    assert isinstance(timed, TrainPlan)
    assert 1 < timed.seconds < 5.1
