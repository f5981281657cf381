"""Embedding models: how vectors are pooled, which must be as the served file pools them, and how well they rank."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from freehold.convert.pooling import KEY, NUMBERS, named_by
from freehold.core.errors import BadData, BadInput, Unsupported
from freehold.formats.gguf import read_header
from freehold.proofs import ranking
from freehold.store.folders import read_json
from freehold.tuning.aim import Aim
from freehold.tuning.job import ADAPTERS, Pooling, TrainJob
from freehold.tuning.objectives.base import Example
from freehold.tuning.objectives.embed import key, scored
from freehold.tuning.policy import AT_ONCE, bare
from freehold.tuning.unpack import file_of

if TYPE_CHECKING:
    from freehold.tuning.policy import Policy

USUAL = "mean"
"""What the server does with a file that says nothing."""


class Vectors(Aim):
    """Learns vectors, and names their pooling in what comes out."""

    def __init__(self, job: TrainJob, base: Path) -> None:
        super().__init__(job, base)
        if job.method == "scratch":
            raise BadInput("objective embed is not for method scratch", "Name a base, and use lora or full")
        self.pooling = pooling_of(base, job.pooling)

    def begin(
        self, examples: Sequence[Example], held_out: Sequence[Example], hidden: int, device: torch.device
    ) -> dict[str, nn.Parameter]:
        """Nothing beside the model. Raises BadData for pairs that do not go together, or are too few."""
        if len({scored([example]) for example in (*examples, *held_out)}) > 1:
            raise BadData("some pairs have a score and others have none", "Give all of them one, or none")
        if scored(examples) and any(len(example.samples) > 2 for example in examples):
            raise BadData("pairs with scores have negatives too", "Give scores or negatives")
        if scored(examples) and len({example.label for example in examples}) == 1:
            raise BadData(f"every pair has the score {examples[0].label:g}", "Give pairs that differ, or no scores")
        return {}

    def largest(self, epoch: Sequence[Sequence[int]], examples: Sequence[Example]) -> int:
        """A step's tokens, or those that are computed at once."""
        if all(len(batch) == 1 and len(examples[batch[0]].samples) == 2 for batch in epoch):
            if len(examples) == 1:
                raise BadData("there is one pair, which nothing can be told from", "Give more pairs")
            raise BadData("no step has room for two pairs to tell apart", "Raise batch_tokens, or lower max_length")
        longest = max(len(sample.ids) for example in examples for sample in example.samples)
        return min(super().largest(epoch, examples), max(AT_ONCE, longest))

    def equip(self, policy: "Policy") -> None:
        """Its pooling, and the scale of cosines."""
        policy.pooling, policy.scale = self.pooling, self.job.scale

    @torch.no_grad()
    def measured(self, policy: "Policy", examples: Sequence[Example], held_out: Sequence[Example]) -> dict[str, float]:
        """How well held-out pairs are found; of an adapter, beside its base."""
        if not held_out:
            return {}
        found = _figures(policy, held_out)
        if self.job.method in ADAPTERS:
            with bare(policy.model.linears):
                found |= {f"{name}_of_base": value for name, value in _figures(policy, held_out).items()}
        return {**found, "held_out_rows": float(len(held_out))}

    def saved(self, out: Path) -> Path:
        """The folder of a model says its pooling. An adapter's base does, or what it is merged to."""
        if self.job.method not in ADAPTERS:
            declare(out, self.pooling)
        return out


def pooling_of(base: Path, wanted: Pooling) -> str:
    """How vectors of a tuned base are pooled: as its GGUF file is served, or as is wanted of a folder.

    Raises BadInput where a file is served otherwise than is wanted, Unsupported for a pooling that is neither's,
    BadModelFile for a folder whose files cannot be read.
    """
    file = file_of(base)
    if file is None:
        return wanted if wanted != "auto" else named_by(base, read_json(base / "config.json")) or USUAL
    header = read_header(file)
    number = header.metadata.get(f"{header.architecture}.{KEY}", NUMBERS[USUAL])
    found = next((name for name, each in NUMBERS.items() if each == number), None)
    if found is None:
        raise Unsupported(f"{base} pools vectors by llama.cpp's way {number}", "Use a base that pools by mean or last")
    if wanted not in ("auto", found):
        raise BadInput(f"the base is a GGUF file that is served with pooling {found}, not {wanted}", "Remove pooling")
    return found


def declare(folder: Path, pooling: str) -> None:
    """Have a model's folder say how vectors are pooled."""
    path = folder / "config.json"
    config = {**read_json(path), KEY: pooling}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _figures(policy: "Policy", examples: Sequence[Example]) -> dict[str, float]:
    vectors: dict[bytes, torch.Tensor] = {}
    texts = {key(sample): sample for example in examples for sample in example.samples}
    # The longest first: then texts of like length are computed together.
    order = sorted(texts, key=lambda each: (-len(each), each))
    for each, vector in zip(order, policy.embedded([texts[each] for each in order]).cpu(), strict=True):
        vectors[each] = vector
    linked = [_linked(example) for example in examples]
    return ranking.measure(linked, {each: vector.numpy() for each, vector in vectors.items()})


def _linked(example: Example) -> ranking.Linked:
    first, second, *others = map(key, example.samples)
    return ranking.Linked(first, second, tuple(others), example.label)
