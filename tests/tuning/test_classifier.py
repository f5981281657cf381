"""A classifier beside transformers' own: the same logits, measured on held-out rows, refused where it cannot be."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from freehold.core.errors import BadData, BadInput, BadModelFile, FreeholdError, Unsupported
from freehold.data.rows import Labelled, write_rows
from freehold.tuning import model
from freehold.tuning.classifier import classify, measure
from freehold.tuning.job import TrainJob
from freehold.tuning.trainer import Trainer
from tests.tiny import write_gguf

pytestmark = pytest.mark.usefixtures("restored")

Jobs = Callable[..., TrainJob]
THINGS = ("key", "lamp", "map")


def labelled(count: int, seed: int) -> list[Labelled]:
    """Texts whose label is a word in them; the first label is the commonest."""
    draw = random.Random(seed)
    made = []
    for line in range(count):
        name, thing = draw.choice(["Ann", "Ben", "Cid", "Eve"]), draw.choice((*THINGS, THINGS[0]))
        made.append(Labelled(f"{name} has the {thing}. Who has it?", f"the {thing}", line + 1))
    return made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {"train": tmp_path / "train.jsonl", "held_out": tmp_path / "held_out.jsonl"}
    write_rows(found["train"], labelled(120, 0))
    write_rows(found["held_out"], labelled(30, 1))
    return found


@pytest.fixture
def wide(base: Path, tmp_path: Path) -> Path:
    """The base in float32, in which nothing is rounded."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "wide"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(folder, max_shard_size="100KB")
    assert (folder / "model.safetensors.index.json").exists()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_transformers_has_its_logits(job: Jobs, wide: Path, files: dict[str, Path], method: str) -> None:
    from transformers import AutoModelForSequenceClassification

    asked = job(**files, base=wide, objective="classify", method=method, steps=30, learning_rate=5e-3, evaluations=2)
    trainer = Trainer(asked, lambda report: None)
    result = trainer.run()
    assert result.model.name == "model"
    theirs, told = AutoModelForSequenceClassification.from_pretrained(
        result.model, dtype=torch.float32, output_loading_info=True
    )
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(theirs).__name__ == "LlamaForSequenceClassification"
    assert theirs.config.id2label == dict(enumerate(sorted(f"the {thing}" for thing in THINGS)))
    encoder, right = model.tokenizer(wide), 0
    with torch.no_grad():
        ours, labels = trainer.policy.classified(trainer.held_out)
        for row, wanted, label in zip(labelled(30, 1), ours, labels.tolist(), strict=True):
            found = theirs(input_ids=torch.tensor([encoder.encode(row.text).ids])).logits[0]
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
            assert theirs.config.id2label[label] == row.label
            right += int(found.argmax()) == label
    assert result.measured["accuracy"] == right / 30
    assert result.measured["accuracy"] > result.measured["accuracy_of_commonest"]
    assert result.held_out_losses[0].loss == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-4)
    assert result.held_out_losses[-1].loss < result.held_out_losses[0].loss
    [[best, *others]] = classify(result.model, [labelled(1, 1)[0].text])
    assert best.label == theirs.config.id2label[int(ours[0].argmax())]
    assert best.probability + sum(guess.probability for guess in others) == pytest.approx(1)


def test_it_goes_on_where_it_was(job: Jobs, files: dict[str, Path], tmp_path: Path) -> None:
    fields = {**files, "objective": "classify", "steps": 8, "checkpoint_seconds": 1e-6}
    whole = Trainer(job(**fields, out=tmp_path / "whole"), lambda report: None).run()
    broken = Trainer(job(**fields, out=tmp_path / "broken"), lambda report: None)

    def stop(report: object) -> None:
        broken.stopping = getattr(report, "step", 0) == 4

    broken.say = stop
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = Trainer(job(**fields, out=tmp_path / "broken"), lambda report: None).run()
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    assert (resumed.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()


def refusal(job: TrainJob) -> FreeholdError:
    with pytest.raises(FreeholdError) as caught:
        Trainer(job, lambda report: None).run()
    assert "\n" not in caught.value.line()
    return caught.value


def test_what_cannot_be_a_classifier_is_refused(job: Jobs, files: dict[str, Path], tmp_path: Path) -> None:
    asked = {**files, "objective": "classify", "steps": 1}
    assert isinstance(refusal(job(**asked, method="full")), BadInput)
    file = write_gguf(tmp_path / "tiny.gguf")
    assert isinstance(refusal(job(**asked, base=file)), Unsupported)
    write_rows(tmp_path / "one.jsonl", [Labelled("a text of words", "x"), Labelled("another text", "x")])
    assert "2 to 4096 labels" in refusal(job(**{**asked, "train": tmp_path / "one.jsonl"})).message
    write_rows(tmp_path / "new.jsonl", [Labelled("a text of words", "y")])
    error = refusal(job(**{**asked, "held_out": tmp_path / "new.jsonl"}))
    assert isinstance(error, BadData)
    assert "label 'y' is held out and nowhere learned" in error.message


def test_a_model_that_is_none_says_so(base: Path) -> None:
    with pytest.raises(BadModelFile, match="no classifier"):
        classify(base, ["a text"])


def test_accuracy_is_measured_beside_the_commonest_label() -> None:
    found = measure(["a", "b", "b", "c"], ["a", "b", "a", "a"], ["b", "b", "a"])
    assert found == {"accuracy": 0.5, "accuracy_of_commonest": 0.5, "held_out_rows": 4}
    assert measure([], [], ["a"]) == {}
    assert json.dumps(found)
