"""Classifiers: a head, a row to a label, on the last token's state; in transformers' …ForSequenceClassification format.

`Head` is what the trainer adds to a model, by `Labels`; `save` writes both as a folder, `classify` asks such a folder.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from freehold.core.errors import BadData, BadInput, BadModelFile, Unsupported
from freehold.store.folders import read_json
from freehold.tuning.aim import Aim
from freehold.tuning.batches import batches
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.decoder.weights import shards
from freehold.tuning.job import ADAPTERS, TrainJob
from freehold.tuning.launch import require_extra
from freehold.tuning.merge import merge
from freehold.tuning.objectives.base import Example
from freehold.tuning.unpack import file_of

if TYPE_CHECKING:
    from freehold.tuning.policy import Policy

WEIGHT = "score.weight"
_MOST = 4096
"""Labels."""
_SHOWN = 80


class Head(NamedTuple):
    """The labels in their order, and a row for each, [labels, hidden]; zeros at first: all are equally likely."""

    labels: tuple[str, ...]
    score: nn.Parameter

    @classmethod
    def of(cls, examples: Iterable[Example], hidden: int, device: torch.device) -> "Head":
        """One for the labels that `examples` have. Raises BadData for too few or too many."""
        labels = tuple(sorted({example.reference for example in examples}))
        if not 2 <= len(labels) <= _MOST:
            raise BadData(f"a classifier needs 2 to {_MOST} labels, and the rows have {len(labels)}", "Check the data")
        return cls(labels, nn.Parameter(torch.zeros(len(labels), hidden, device=device)))

    def targets(self, examples: Sequence[Example]) -> Tensor:
        """The numbers of their labels, [examples]. Raises BadData for one that no row to learn from has."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        unknown = next((each.reference for each in examples if each.reference not in numbers), None)
        if unknown is not None:
            raise BadData(f"label {unknown[:_SHOWN]!r} is held out and nowhere learned", "Give more rows of it")
        return torch.tensor([numbers[each.reference] for each in examples], device=self.score.device)


class Labels(Aim):
    """A head for the labels that the rows have, which learns beside an adapter."""

    head: Head

    def __init__(self, job: TrainJob, base: Path) -> None:
        super().__init__(job, base)
        if job.method not in ADAPTERS:
            raise BadInput(f"objective classify is not for method {job.method}", "Use lora, rslora or dora")
        if file_of(base) is not None:
            raise Unsupported("a classifier is made of a base of safetensors, not of a GGUF file", "Name its folder")
        _architecture(Shape.read(base).family)

    def begin(
        self, examples: Sequence[Example], held_out: Sequence[Example], hidden: int, device: torch.device
    ) -> dict[str, nn.Parameter]:
        """The head. Raises BadData where rows that are held out have labels of their own."""
        self.head = Head.of(examples, hidden, device)
        self.head.targets(held_out)
        return {WEIGHT: self.head.score}

    def equip(self, policy: "Policy") -> None:
        """The head labels texts."""
        policy.head = self.head

    @torch.no_grad()
    def measured(self, policy: "Policy", examples: Sequence[Example], held_out: Sequence[Example]) -> dict[str, float]:
        """How often the likeliest label is right."""
        said: dict[int, str] = {}
        for batch in batches([each.tokens for each in held_out], self.job.batch_tokens, 0, 0):
            scores, _ = policy.classified([held_out[index] for index in batch])
            best = scores.argmax(1).tolist()
            said |= {index: self.head.labels[label] for index, label in zip(batch, best, strict=True)}
        right, learned = ([each.reference for each in side] for side in (held_out, examples))
        return measure(right, [said[index] for index in range(len(right))], learned)

    def saved(self, out: Path) -> Path:
        """Base, adapter and head as one model."""
        model = self.job.out / "model"
        save(self.base, out, self.head, model)
        return model


def _architecture(kind: str) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    names: dict[str, str] = dict(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    if kind not in names:
        raise Unsupported(f"transformers has no classifiers of the family {kind[:_SHOWN]!r}", "Take another base")
    return names[kind]


def measure(right: Sequence[str], said: Sequence[str], learned: Sequence[str]) -> dict[str, float]:
    """Accuracy on held-out rows, beside that of always saying the label that is commonest among those `learned`."""
    if not right:
        return {}
    [(usual, _)] = Counter(sorted(learned)).most_common(1)
    hits = sum(one == other for one, other in zip(right, said, strict=True))
    return {
        "accuracy": hits / len(right),
        "accuracy_of_commonest": sum(one == usual for one in right) / len(right),
        "held_out_rows": float(len(right)),
    }


def save(base: Path, adapter: Path, head: Head, out: Path) -> None:
    """Base and adapter merged, with the head in the place of that for tokens."""
    from safetensors.torch import load_file, save_file

    shutil.rmtree(out, ignore_errors=True)
    merge(base, adapter, out)
    config = json.loads((out / "config.json").read_bytes())
    files = shards(out)
    last = files[-1]
    for shard in files:
        found = load_file(shard)
        tensors = {name: tensor.clone() for name, tensor in found.items() if name != "lm_head.weight"}
        if shard == last:
            dtype = next(iter(found.values())).dtype
            tensors[WEIGHT] = head.score.detach().cpu().to(dtype).contiguous()
        save_file(tensors, shard, metadata={"format": "pt"})
    index = out / "model.safetensors.index.json"
    if index.exists():
        listed = json.loads(index.read_bytes())
        listed["weight_map"].pop("lm_head.weight", None)
        listed["weight_map"][WEIGHT] = last.name
        index.write_text(json.dumps(listed, indent=2) + "\n", "utf-8")
    end = config.get("eos_token_id")
    config |= {
        "architectures": [_architecture(config["model_type"])],
        "id2label": {str(number): label for number, label in enumerate(head.labels)},
        "label2id": {label: number for number, label in enumerate(head.labels)},
        "problem_type": "single_label_classification",
    }
    if config.get("pad_token_id") is None:
        config["pad_token_id"] = end[0] if isinstance(end, list) else end
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


class Guess(NamedTuple):
    """A label, and how likely it is, from 0 to 1."""

    label: str
    probability: float


def classify(folder: Path, texts: Sequence[str]) -> list[list[Guess]]:
    """For each text all labels, the likeliest first. Raises MissingExtra, BadModelFile for what is no classifier."""
    require_extra()
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = read_json(folder / "config.json")
    if not str((config.get("architectures") or [""])[0]).endswith("ForSequenceClassification"):
        raise BadModelFile("the model is no classifier", "Make one: freehold tune BASE DATA --objective classify")
    network = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    network.eval()
    encoder = Tokenizer.from_file(str(folder / "tokenizer.json"))
    longest = int(config.get("max_position_embeddings", 2048))
    return [_guesses(network, encoder.encode(text).ids[:longest], text) for text in texts]


@torch.no_grad()
def _guesses(network: nn.Module, ids: list[int], text: str) -> list[Guess]:
    if not ids:
        raise BadInput(f"the text {text[:_SHOWN]!r} has no tokens", "Give some words")
    # One text at a time: then there is no padding, and nothing to look for behind the last token.
    chances = network(input_ids=torch.tensor([ids])).logits[0].softmax(-1).tolist()
    labels: dict[int, str] = network.config.id2label  # type: ignore[union-attr,assignment]
    return sorted((Guess(labels[number], chance) for number, chance in enumerate(chances)), key=lambda g: -g[1])
