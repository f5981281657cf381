"""What each objective teaches: its loss beside its formula written out in plain torch, and what it does to a model."""

import math
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from freehold.core.errors import BadData, BadRecipe
from freehold.core.request import Message
from freehold.data.rows import AnyRow, Document, Judged, Preference, Prompt, write_rows
from freehold.tuning import model
from freehold.tuning.job import Objective, TrainJob, TrainResult
from freehold.tuning.merge import merge
from freehold.tuning.objectives import objectives
from freehold.tuning.render import Renderer, Sample
from freehold.tuning.trainer import Trainer
from tests.tuning.conftest import rows

Jobs = Callable[..., TrainJob]
Run = Callable[[TrainJob], TrainResult]
NAMES = ("Ann", "Ben", "Cid", "Dora", "Eve")


@pytest.fixture
def run() -> Iterator[Run]:
    threads, handlers = torch.get_num_threads(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    yield lambda job: Trainer(job, lambda report: None).run()  # type: ignore[return-value]
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
        signal.signal(number, handler)


def preferences(count: int, seed: int = 0) -> list[Preference]:
    """The right name is wanted, another one is not."""
    draw = random.Random(seed)
    made = []
    for row in rows(count, seed):
        right = row.answer.split()[0]
        wrong = draw.choice([name for name in NAMES if name != right])
        chosen, rejected = ((Message("assistant", f"{name} has it."),) for name in (right, wrong))
        made.append(Preference(row.messages[:-1], row.line, chosen=chosen, rejected=rejected))
    return made


def judged(count: int, seed: int = 0) -> list[Judged]:
    found = preferences(count, seed)
    return [
        Judged((*row.messages, *(row.chosen if number % 2 else row.rejected)), row.line, label=bool(number % 2))
        for number, row in enumerate(found)
    ]


def written(folder: Path, made: Sequence[AnyRow]) -> Path:
    path = folder / "rows.jsonl"
    write_rows(path, made)
    return path


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def renderer(base: Path) -> Renderer:
    template, names = model.chat_template(base)
    return Renderer(model.tokenizer(base), template, max_length=256, prompt_weight=0.0, **names)


def logps(network: Any, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Sums over the answers, and their tokens; each sequence by itself."""
    sums, counts = [], []
    for sample in samples:
        ids, weights = torch.tensor(sample.ids), torch.tensor(sample.weights)[1:]
        found = network(input_ids=ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        sums.append((found * weights).sum())
        counts.append(weights.sum())
    return torch.stack(sums), torch.stack(counts)


def test_there_is_a_file_for_each() -> None:
    assert set(objectives()) == {*get_args(Objective), "tokens"}


def pairs(base: Path, made: Sequence[AnyRow], objective: str) -> tuple[list[Sample], list[float]]:
    examples = list(objectives()[objective].examples(made, renderer(base)))
    return [sample for example in examples for sample in example.samples], [example.label for example in examples]


def expected(objective: str, samples: list[Sample], labels: list[float], base: Any, tuned: Any, beta: float) -> float:
    """The loss by the formula of its paper."""
    with torch.no_grad():
        (now, counts), (first, _) = logps(tuned, samples), logps(base, samples)
    gains = (now - first).view(-1, 2)
    if objective == "dpo":
        return float(torch.log1p(torch.exp(-beta * (gains[:, 0] - gains[:, 1]))).mean())
    if objective == "kto":
        drift = max(0.0, float(gains[:, 1].mean()))
        ahead = [
            gain - drift if label else drift - gain for gain, label in zip(gains[:, 0].tolist(), labels, strict=True)
        ]
        return sum(1 - 1 / (1 + math.exp(-beta * each)) for each in ahead) / len(ahead)
    each = (now / counts).view(-1, 2).exp()
    odds = each / (1 - each)
    ratio = (odds[:, 0] / odds[:, 1]).log()
    nll = -now[::2].sum() / counts[::2].sum()
    return float(nll + beta * torch.log1p(torch.exp(-ratio)).mean())


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_the_loss_is_that_of_its_paper(
    job: Jobs, base: Path, run: Run, tmp_path: Path, objective: str, method: str
) -> None:
    made = judged(8) if objective == "kto" else preferences(8)
    path = written(tmp_path, made)
    asked = job(
        objective=objective, method=method, beta=0.3, train=path, held_out=path, steps=6, batch_tokens=4096,
        learning_rate=3e-3,
    )  # fmt: skip
    result = run(asked)
    folder = result.model
    if method == "lora":
        folder = tmp_path / "merged"
        merge(base, result.model, folder)
    samples, labels = pairs(base, made, objective)
    start = expected(objective, samples, labels, plain(base), plain(base), 0.3)
    assert result.losses[0] == pytest.approx(start, rel=1e-3)
    end = expected(objective, samples, labels, plain(base), plain(folder), 0.3)
    # What comes out is rounded to bfloat16.
    assert result.held_out_losses[-1].loss == pytest.approx(end, rel=0.03)
    assert end < start


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_what_is_wanted_becomes_likelier_than_what_is_not(
    job: Jobs, base: Path, run: Run, tmp_path: Path, objective: str
) -> None:
    made = judged(120) if objective == "kto" else preferences(120)
    asked = job(
        objective=objective, train=written(tmp_path, made), held_out=None, steps=40, batch_tokens=1024,
        learning_rate=5e-3, rank=8, alpha=16.0, beta=0.3,
    )  # fmt: skip
    merge(base, run(asked).model, tmp_path / "merged")
    samples, _ = pairs(base, preferences(30, seed=7), "dpo")
    with torch.no_grad():
        before, after = (logps(plain(folder), samples)[0].view(-1, 2) for folder in (base, tmp_path / "merged"))
    ahead = [(sums[:, 0] - sums[:, 1]) for sums in (before, after)]
    assert ahead[1].mean() > ahead[0].mean() + 0.5
    assert (ahead[1] > 0).sum() > (ahead[0] > 0).sum()


def test_plain_text_is_learned_to_its_last_token(job: Jobs, base: Path, run: Run, tmp_path: Path) -> None:
    made = [Document("Ann has the key. Ben has the lamp. " * 20), Document("Eve has it.")]
    path = written(tmp_path, made)
    asked = job(objective="text", train=path, held_out=path, steps=20, max_length=64, learning_rate=1e-2)
    result = run(asked)
    tokenizer = model.tokenizer(base)
    tokens = sum(len(tokenizer.encode(each.text).ids) + 1 for each in made)
    assert result.rows == math.ceil((tokens - len(tokenizer.encode("Eve has it.").ids) - 1) / 64) + 1
    assert result.rows_cut == 0
    assert result.held_out_losses[-1].loss < 0.7 * result.held_out_losses[0].loss


def test_plain_text_asks_for_no_chat_template(job: Jobs, base: Path, run: Run, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "chat_template.jinja").unlink()
    path = written(tmp_path, [Document("Ann has the key.")] * 3)
    assert run(job(objective="text", base=bare, train=path, held_out=None, steps=2)).steps == 2


@pytest.mark.parametrize("objective", ["dpo", "kto", "text"])
def test_rows_of_another_kind_are_refused(job: Jobs, run: Run, objective: str) -> None:
    with pytest.raises(BadData, match=r"line 1 is of the kind 'chat', not"):
        run(job(objective=objective))


def prompts(count: int, seed: int = 0) -> list[Prompt]:
    return [Prompt(row.messages[:-1], row.line, reference=row.answer) for row in rows(count, seed)]


def test_what_is_worth_more_is_said_more_often(job: Jobs, base: Path, run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, prompts(12))
    asked = job(
        objective="grpo", rewards=("regex:[aeiou]", "regex:has", "regex:it", "regex: "), train=path, held_out=path,
        steps=12, batch=4, learning_rate=1e-2, rank=8, alpha=16.0, beta=0.01, group=8, max_answer=12, evaluations=2,
    )  # fmt: skip
    result = run(asked)
    before, after = (-point.loss for point in result.held_out_losses)
    assert after > before + 0.1
    again = run(job(**{**{key: getattr(asked, key) for key in asked.__struct_fields__}, "out": tmp_path / "again"}))
    assert again.losses == result.losses


def test_grpo_needs_rewards(job: Jobs, run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="needs rewards"):
        run(job(objective="grpo", train=written(tmp_path, prompts(4)), held_out=None))
