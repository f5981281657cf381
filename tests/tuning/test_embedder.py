"""Embedding models: the loss beside its formula, the served vectors beside the trainer's, ranks that get better."""

import asyncio
import json
import math
import random
import shutil
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from freehold.convert import adapter_to_gguf, to_gguf
from freehold.core.errors import BadData, BadInput, FreeholdError, Unsupported
from freehold.core.request import EmbedRequest
from freehold.core.settings import Settings
from freehold.data.rows import Pair, write_rows
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from freehold.formats.gguf import read_header
from freehold.tuning import policy
from freehold.tuning.decoder.nf4 import Nf4
from freehold.tuning.decoder.quantised import Workbench
from freehold.tuning.embedder import declare, pooling_of
from freehold.tuning.job import TrainJob, TrainResult
from freehold.tuning.merge import merge
from freehold.tuning.objectives.base import Example
from freehold.tuning.objectives.embed import OBJECTIVE
from freehold.tuning.render import Sample
from freehold.tuning.trainer import Trainer
from freehold.tuning.unpack import unpack
from tests.tiny import write_gguf

pytestmark = pytest.mark.usefixtures("restored")

Jobs = Callable[..., TrainJob]
NAMES, THINGS = ("Ann", "Ben", "Cid", "Dora", "Eve"), ("key", "lamp", "map", "pen", "ring")


def linked(count: int, seed: int, *, negatives: int = 0, scores: bool = False) -> list[Pair]:
    """What belongs to a text names other things than it does: they are learned, words in common mislead."""
    draw = random.Random(seed)
    made = []
    for line in range(1, count + 1):
        name, thing, other = draw.randrange(5), draw.randrange(5), draw.choice(THINGS)
        texts = [f"The {THINGS[thing - 1]} of {NAMES[name - by]}." for by in range(1, 5)]
        near = draw.random() < 0.5 if scores else True
        first = f"{NAMES[name]} has the {THINGS[thing]}. Who has the {THINGS[thing]}? No {other}."
        score = float(near) + 0.001 * line if scores else None
        made.append(Pair(first, texts[0 if near else 1], tuple(texts[1 : 1 + negatives]), score, line))
    return made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {"train": tmp_path / "pairs.jsonl", "held_out": tmp_path / "kept.jsonl"}
    write_rows(found["train"], linked(120, 0))
    write_rows(found["held_out"], linked(24, 1))
    return found


def run(job: TrainJob) -> tuple[Trainer, TrainResult]:
    trainer = Trainer(job, lambda report: None)
    result = trainer.run()
    assert isinstance(result, TrainResult)
    return trainer, result


class Given:
    """A policy whose vectors are given, by the first token of each text."""

    beta, scale = 0.1, 20.0

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def embedded(self, samples: Sequence[Sample]) -> Tensor:
        return torch.nn.functional.normalize(self.vectors[[sample.ids[0] for sample in samples]], dim=1)


def example(*texts: int, score: float = math.nan) -> Example:
    samples = tuple(Sample(array("i", [text]), array("f", [1.0]), False) for text in texts)
    return Example(samples, 0, label=score, whole=True)


def given(texts: int) -> Given:
    return Given(torch.randn(texts, 6, generator=torch.Generator().manual_seed(1)).double())


def loss(policy: Given, *examples: Example) -> float:
    return float(OBJECTIVE.loss(policy, examples))  # type: ignore[arg-type]


def test_all_other_texts_of_a_step_are_what_is_not_meant() -> None:
    policy = given(7)
    unit = torch.nn.functional.normalize(policy.vectors, dim=1)
    cosines = 20 * unit @ unit.T
    choices = [1, 3, 6, 4, 5]
    wanted = sum(cosines[row, choices].logsumexp(0) - cosines[row, right] for row, right in ((0, 1), (2, 3), (5, 6)))
    # 5 is a first text too, so for that one it is no choice.
    wanted += cosines[5, [1, 3, 6, 4]].logsumexp(0) - cosines[5, choices].logsumexp(0)
    assert loss(policy, example(0, 1), example(2, 3, 4, 5), example(5, 6)) == pytest.approx(float(wanted) / 3)


def test_what_belongs_to_a_text_too_is_no_wrong_choice() -> None:
    policy = given(5)
    unit = torch.nn.functional.normalize(policy.vectors, dim=1)
    cosines = 20 * unit @ unit.T
    # The same first text with two that belong to it, and another text to which one of those belongs.
    wanted = cosines[0, [1]].logsumexp(0) - cosines[0, 1]
    wanted += cosines[0, [2]].logsumexp(0) - cosines[0, 2]
    wanted += cosines[3, [1, 2]].logsumexp(0) - cosines[3, 1]
    assert loss(policy, example(0, 1), example(0, 2), example(3, 1)) == pytest.approx(float(wanted) / 3)


def test_scores_say_the_order() -> None:
    policy = given(6)
    unit = torch.nn.functional.normalize(policy.vectors, dim=1)
    scores, cosines = [0.2, 0.9, 0.2], [20 * float(unit[row] @ unit[row + 1]) for row in (0, 2, 4)]
    wrong = [math.exp(cosines[low] - cosines[1]) for low in (0, 2)]
    examples = [example(row, row + 1, score=score) for row, score in zip((0, 2, 4), scores, strict=True)]
    assert loss(policy, *examples) == pytest.approx(math.log(1 + sum(wrong)))
    assert loss(policy, *(each._replace(label=0.5) for each in examples)) == 0


@pytest.mark.parametrize(
    "fields",
    [{"pooling": "mean"}, {"pooling": "last"}, {"method": "dora"}, {"base_dtype": "nf4"}],
    ids=lambda fields: "".join(fields.values()),
)
def test_large_steps_have_the_gradients_of_one(
    job: Jobs, files: dict[str, Path], fields: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = run(job(**files, objective="embed", **{"method": "lora", **fields}, steps=2, dtype="f32"))
    found = []
    for most in (1 << 13, 64):
        monkeypatch.setattr(policy, "AT_ONCE", most)
        for half in trainer.trained.values():
            half.grad = None
        value = trainer.objective.loss(trainer.policy, trainer.examples[:12])
        torch.autograd.backward(value)
        found.append((value.detach(), [half.grad for half in trainer.trained.values()]))
    torch.testing.assert_close(*found)
    assert any(bool(each.abs().sum() > 0) for each in found[0][1] if each is not None)


def served(file: Path, texts: Sequence[str], socket: Path, *adapters: Path) -> np.ndarray:
    """The vectors that the server has of texts."""

    async def ask() -> np.ndarray:
        worker = await LlamaCpp().start(
            ModelFile(file, "tuned", embedding=True, adapters=adapters), Settings(home=socket, threads=1, parallel=2)
        )
        try:
            found = [(await worker.embed(EmbedRequest(model="tuned", inputs=(text,)))).vectors[0] for text in texts]
        finally:
            await worker.stop()
        return np.array(found)

    return asyncio.run(ask())


def cosines(trainer: Trainer, rows: Sequence[Pair], found: np.ndarray) -> float:
    """The least cosine of the trainer's vectors with those that were found, of the first text of each row."""
    with torch.no_grad():
        ours = trainer.policy.embedded([each.samples[0] for each in trainer.held_out[: len(rows)]]).numpy()
    return float((ours * found).sum(1).min())


@pytest.mark.parametrize(
    ("method", "pooling"),
    [
        ("lora", "mean"),
        pytest.param("lora", "last", marks=pytest.mark.slow),
        pytest.param("full", "last", marks=pytest.mark.slow),
        pytest.param("dora", "mean", marks=pytest.mark.slow),
    ],
)
def test_the_right_text_comes_first_and_the_server_says_so_too(
    job: Jobs, base: Path, files: dict[str, Path], tmp_path: Path, home: Path, method: str, pooling: str
) -> None:
    rate = 2e-3 if method == "full" else 5e-3
    trainer, result = run(
        job(
            **files, objective="embed", method=method, pooling=pooling, steps=100, learning_rate=rate,
            batch_tokens=1024, evaluations=2, dtype="f32",
        )
    )  # fmt: skip
    measured = result.measured
    assert measured["held_out_rows"] == 24
    assert measured["mrr"] >= measured["recall_at_1"]
    assert result.held_out_losses[-1].loss < 0.8 * result.held_out_losses[0].loss
    if method != "full":
        assert result.model.name == "adapter"
        assert measured["mrr"] > 2 * measured["mrr_of_base"]
        assert measured["recall_at_1"] > measured["recall_at_1_of_base"] + 0.1
        merge(base, result.model, tmp_path / "whole")
        declare(tmp_path / "whole", pooling_of(base, pooling))  # type: ignore[arg-type]
    whole = result.model if method == "full" else tmp_path / "whole"
    to_gguf(whole, tmp_path / "whole.gguf", dtype="f16")
    assert read_header(tmp_path / "whole.gguf").metadata["llama.pooling_type"] == {"mean": 1, "last": 3}[pooling]
    rows = linked(24, 1)[:6]
    found = served(tmp_path / "whole.gguf", [row.anchor for row in rows], home)
    assert cosines(trainer, rows, found) > 0.999


def rounded(base: Path, folder: Path) -> Path:
    """The base with the numbers that its layers have in NF4."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    bench = Workbench(1, torch.device("cpu"))
    layers = {name: each for name, each in tensors.items() if ".layers." in name and each.dim() == 2}
    coarse = {name: Nf4(each, bench).dense(torch.float32).clone() for name, each in layers.items()}
    save_file({name: each.float() for name, each in tensors.items()} | coarse, folder / "model.safetensors")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_vectors_learned_on_nf4_are_those_of_the_base_in_nf4_with_the_adapter(
    job: Jobs, base: Path, files: dict[str, Path], tmp_path: Path, home: Path, method: str
) -> None:
    trainer, result = run(
        job(
            **files, objective="embed", method=method, base_dtype="nf4", steps=60, learning_rate=5e-3,
            batch_tokens=1024, dtype="f32",
        )
    )  # fmt: skip
    assert result.measured["mrr"] > 1.5 * result.measured["mrr_of_base"]
    rows = linked(24, 1)[:4]
    found = {}
    for name, beneath in (("nf4", rounded(base, tmp_path / "rounded")), ("stored", base)):
        merge(beneath, result.model, tmp_path / name)
        declare(tmp_path / name, "mean")
        to_gguf(tmp_path / name, tmp_path / f"{name}.gguf", dtype="f16")
        found[name] = cosines(trainer, rows, served(tmp_path / f"{name}.gguf", [row.anchor for row in rows], home))
    assert found["nf4"] > 0.999
    assert found["stored"] > 0.9


def test_beside_a_gguf_file_vectors_are_pooled_as_that_is_served(
    job: Jobs, files: dict[str, Path], tmp_path: Path, home: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", hidden=32, layers=1, pooling=3)
    trainer, result = run(
        job(**files, base=file, objective="embed", method="lora", steps=6, learning_rate=5e-3, dtype="f32")
    )
    assert trainer.policy.pooling == "last"
    adapter_to_gguf(result.model, file, tmp_path / "adapter.gguf")
    rows = linked(24, 1)[:4]
    found = served(file, [row.anchor for row in rows], home, tmp_path / "adapter.gguf")
    assert cosines(trainer, rows, found) > 0.999


def test_pooling_is_the_bases(base: Path, tmp_path: Path) -> None:
    assert pooling_of(base, "auto") == "mean"
    assert pooling_of(base, "last") == "last"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    declare(tmp_path / "folder", "last")
    assert pooling_of(tmp_path / "folder", "auto") == "last"
    plain = unpack(write_gguf(tmp_path / "plain.gguf"), tmp_path / "plain")
    assert pooling_of(plain, "auto") == "mean"
    with pytest.raises(BadInput, match="served with pooling mean, not last"):
        pooling_of(plain, "last")
    ranks = unpack(write_gguf(tmp_path / "ranks.gguf", pooling=4), tmp_path / "ranks")
    with pytest.raises(Unsupported, match="way 4"):
        pooling_of(ranks, "auto")


def as_sentence_transformers(folder: Path, base: Path, modules: object, pooling: object) -> Path:
    shutil.copytree(base, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def modules(*kinds: str) -> list[dict[str, str]]:
    return [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]


USUAL_MODULES = modules("Transformer", "Pooling", "Normalize")
ALL_FALSE = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (ALL_FALSE | {"pooling_mode_lasttoken": True}, "last"),
        (ALL_FALSE | {"pooling_mode_mean_tokens": True}, "mean"),
        ({"embedding_dimension": 32, "pooling_mode": "lasttoken"}, "last"),
        ({"embedding_dimension": 32, "pooling_mode": ["mean"]}, "mean"),
        ({}, "mean"),
    ],
)
def test_pooling_is_what_sentence_transformers_says(
    base: Path, tmp_path: Path, said: dict[str, object], wanted: str
) -> None:
    folder = as_sentence_transformers(tmp_path / "model", base, USUAL_MODULES, said)
    assert pooling_of(folder, "auto") == wanted
    assert pooling_of(folder, "last") == "last"
    to_gguf(folder, tmp_path / "model.gguf", dtype="f16")
    number = {"mean": 1, "last": 3}[wanted]
    assert read_header(tmp_path / "model.gguf").metadata["llama.pooling_type"] == number
    (folder / "1_Pooling" / "config.json").rename(folder / "1_Pooling.json")  # as it is called in the store
    assert pooling_of(folder, "auto") == wanted
    declare(folder, "mean")
    assert pooling_of(folder, "auto") == "mean"


@pytest.mark.parametrize(
    ("named", "said", "reason"),
    [
        (USUAL_MODULES, {"pooling_mode_cls_token": True}, "1_Pooling/config.json pools vectors by cls"),
        (USUAL_MODULES, {"pooling_mode": "max"}, "by max"),
        (USUAL_MODULES, {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "by max and mean"),
        (USUAL_MODULES, {"pooling_mode": 7}, "by 7"),
        (USUAL_MODULES, [], "config.json: not a JSON object"),
        (modules("Transformer", "Pooling", "Dense"), {"pooling_mode": "mean"}, "modules.json names a module Dense"),
        ({"a": 1}, {"pooling_mode": "mean"}, "modules.json: not a list of modules"),
    ],
)
def test_pooling_that_is_not_served_is_refused(
    job: Jobs, base: Path, files: dict[str, Path], tmp_path: Path, named: object, said: object, reason: str
) -> None:
    folder = as_sentence_transformers(tmp_path / "model", base, named, said)
    error = refusal(job(**files, objective="embed", base=folder))
    assert reason in error.message
    with pytest.raises(type(error), match=reason):
        to_gguf(folder, tmp_path / "model.gguf")
    assert pooling_of(folder, "mean") == "mean"


def test_scores_are_learned(job: Jobs, files: dict[str, Path]) -> None:
    write_rows(files["train"], linked(120, 0, scores=True))
    write_rows(files["held_out"], linked(24, 1, scores=True))
    asked = job(**files, objective="embed", steps=40, learning_rate=5e-3, batch_tokens=1024, evaluations=2)
    _, result = run(asked)
    assert result.measured["spearman"] > result.measured["spearman_of_base"]
    assert result.held_out_losses[-1].loss < result.held_out_losses[0].loss


def test_it_goes_on_where_it_was(job: Jobs, files: dict[str, Path], tmp_path: Path) -> None:
    write_rows(files["train"], linked(60, 0, negatives=2))
    fields = {**files, "objective": "embed", "steps": 8, "checkpoint_seconds": 1e-6}
    _, whole = run(job(**fields, out=tmp_path / "whole"))
    broken = Trainer(job(**fields, out=tmp_path / "broken"), lambda report: None)

    def stop(report: object) -> None:
        broken.stopping = getattr(report, "step", 0) == 4

    broken.say = stop
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    _, resumed = run(job(**fields, out=tmp_path / "broken"))
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    assert resumed.measured == whole.measured
    name = "adapter_model.safetensors"
    assert (resumed.model / name).read_bytes() == (whole.model / name).read_bytes()


def refusal(job: TrainJob) -> FreeholdError:
    with pytest.raises(FreeholdError) as caught:
        Trainer(job, lambda report: None).run()
    assert "\n" not in caught.value.line()
    return caught.value


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([Pair("a question", "an answer")], "one pair"),
        ([Pair("one", "two", score=1.0), Pair("three", "four", score=1.0)], "every pair has the score 1"),
        ([Pair("one", "two", score=1.0), Pair("three", "four")], "some pairs have a score"),
        ([Pair("one", "two", ("five",), 1.0), Pair("three", "four", score=0.0)], "scores have negatives too"),
        ([Pair("one", "two three " * 20), Pair("four five", "six " * 20)], "no step has room for two pairs"),
    ],
)
def test_pairs_that_teach_nothing_are_refused(
    job: Jobs, files: dict[str, Path], tmp_path: Path, rows: list[Pair], said: str
) -> None:
    write_rows(tmp_path / "few.jsonl", rows)
    asked = job(train=tmp_path / "few.jsonl", held_out=None, objective="embed", steps=1, batch_tokens=32, max_length=16)
    error = refusal(asked)
    assert isinstance(error, BadData)
    assert said in error.message
    assert isinstance(refusal(job(**files, objective="embed", method="scratch", base=None)), BadInput)
