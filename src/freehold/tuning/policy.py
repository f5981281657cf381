"""The model that is trained, as objectives see it: losses and log-probabilities of samples, its own and its base's."""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad
from torch.utils.checkpoint import checkpoint

from freehold.tuning.classifier import Head
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.functions import Linear
from freehold.tuning.decoder.logps import token_logps
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.decoder.model import Network
from freehold.tuning.decoder.sampling import sample
from freehold.tuning.objectives.base import Drawn, Example
from freehold.tuning.render import Sample
from freehold.tuning.rewards import Answer, Reward

_FEWEST = 16
AT_ONCE = 1 << 13
"""Tokens of texts whose vectors are made at once. Of a larger step each part is computed twice, and none is kept."""


def spare(tokens: int) -> int:
    """Tokens that nobody reads, so that steps have few sizes: at most a 16th part more, 16 for few.

    oneDNN makes code for each size of a product and never forgets it, and half a megabyte beside: 20 MB for each size
    of a step, between which the C library finds room ever more slowly. Starting from 4,000 tokens a step, memory grew
    to 10 GB within 2,000 steps.
    """
    return -tokens % max(_FEWEST, 1 << max(0, tokens.bit_length() - 5))


class Drawing(NamedTuple):
    """How answers are drawn."""

    reward: Reward
    text: Callable[[list[int]], str]
    """Tokens as text."""
    ends: frozenset[int]
    """Tokens that end an answer."""
    group: int
    """Answers to a prompt."""
    most: int
    """Tokens of an answer."""
    temperature: float
    seed: int
    step: int = 0


class Policy:
    """Computes with one model. `base` is the model that training began with, where adapters cannot be taken off."""

    def __init__(self, model: Network, device: torch.device, beta: float, base: Network | None = None) -> None:
        self.model, self.device, self.beta, self.base = model, device, beta, base
        self.known: dict[int, Tensor] = {}
        """What the model that training began with says of examples, by their number: sums, [sequences]."""
        self.drawing: Drawing | None = None
        """How answers are drawn, for an objective that draws them."""
        self.head: Head | None = None
        """What labels texts, for an objective that does."""
        self.pooling, self.scale = "mean", 1.0
        """How vectors of texts are made, and what multiplies their cosines, for an objective that compares them."""

    def loss(self, samples: Sequence[Sample]) -> Tensor:
        """Mean loss per weighted token, in nats."""
        ids, layout = self._packed(samples)
        weights = torch.tensor([w for sample in samples for w in [*sample.weights[1:], 0.0]], device=self.device)
        counted = weights.nonzero().squeeze(1)
        hidden = self.model(ids, layout)
        shape = self.model.shape
        logits = (shape.logit_scale, shape.logit_cap)
        # The first token again, without weight.
        places = pad(counted, (0, spare(len(counted))))
        mass = pad(weights[counted], (0, len(places) - len(counted)))
        total = head_loss(hidden[places], self.model.head, ids[places + 1], mass, *logits)
        return total / weights.sum()

    def answers(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Sums of the log-probabilities of each sample's answer, and the tokens of each, [samples]."""
        return self._answers(self.model, samples)

    def reference(self, examples: Sequence[Example]) -> Tensor:
        """The sums by the model that training began with, computed once for each example."""
        new = [example for example in examples if example.number not in self.known]
        if new:
            samples = [sample for example in new for sample in example.samples]
            with torch.no_grad(), nullcontext() if self.base else bare(self.model.linears):
                sums, _ = self._answers(self.base or self.model, samples)
            for example, found in zip(new, sums.view(len(new), -1).cpu(), strict=True):
                self.known[example.number] = found
        return torch.stack([self.known[example.number] for example in examples]).to(self.device)

    def at(self, step: int) -> None:
        """Say which step begins: each draws answers of its own."""
        if self.drawing is not None:
            self.drawing = self.drawing._replace(step=step)

    def draw(self, example: Example) -> Drawn:
        """New answers to a prompt, and their worth; the same for the same step."""
        how = self.drawing
        if how is None:
            raise ValueError("nothing says how answers are drawn")
        [prompt] = example.samples
        draw = torch.Generator(self.device).manual_seed(hash((how.seed, how.step, example.number)) & (1 << 62) - 1)
        answers = sample(
            self.model, prompt.ids, count=how.group, most=how.most, ends=how.ends, draw=draw,
            temperature=how.temperature,
        )  # fmt: skip
        texts = [how.text([token for token in answer if token not in how.ends]) for answer in answers]
        worth = how.reward([Answer(example.question, text, example.reference) for text in texts])
        samples = tuple(_answered(prompt, answer) for answer in answers)
        return Drawn(samples, torch.tensor(worth, device=self.device))

    def compared(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
        """For each token of the answers: its log-probability, that by the first model, and the sample that it is of."""
        now, owner = self._tokens(self.model, samples)
        with torch.no_grad(), nullcontext() if self.base else bare(self.model.linears):
            first, _ = self._tokens(self.base or self.model, samples)
        return now, first, owner

    def classified(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """How much each label is for each text, by the state of its last token; and the right ones."""
        if self.head is None:
            raise ValueError("nothing says which labels there are")
        samples = [sample for example in examples for sample in example.samples]
        ids, layout = self._packed(samples)
        ends = torch.tensor([len(sample.ids) for sample in samples], device=self.device).cumsum(0) - 1
        hidden = self.model(ids, layout)[ends]
        return hidden.float() @ self.head.score.T, self.head.targets(examples)

    def embedded(self, samples: Sequence[Sample]) -> Tensor:
        """The vector of each text, of length 1. Source for large steps: Gao et al. 2021, arXiv 2101.06983."""
        parts = _windows([len(sample.ids) for sample in samples])
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._pooled(samples[part]) for part in parts])
        return torch.cat([self._again(samples[part]) for part in parts])

    def _again(self, samples: Sequence[Sample]) -> Tensor:
        """The same vectors, of which nothing is kept: they are computed again for the backward pass."""
        # With no input that asks for a gradient, none would be computed.
        spur = torch.zeros((), requires_grad=True)
        found: Tensor = checkpoint(lambda _: self._pooled(samples), spur, use_reentrant=True, preserve_rng_state=False)
        return found

    def _pooled(self, samples: Sequence[Sample]) -> Tensor:
        """As llama.cpp pools the states behind the last norm: their mean, or the last token's."""
        ids, layout = self._packed(samples)
        lengths = torch.tensor([len(sample.ids) for sample in samples], device=self.device)
        hidden = self.model(ids, layout).float()
        if self.pooling == "last":
            return normalize(hidden[lengths.cumsum(0) - 1], dim=1)
        owner = torch.repeat_interleave(torch.arange(len(samples), device=self.device), lengths)
        sums = hidden.new_zeros(len(samples), hidden.shape[1]).index_add(0, owner, hidden[: len(owner)])
        return normalize(sums, dim=1)

    def _answers(self, model: Network, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        found, owner = self._tokens(model, samples)
        empty = torch.zeros(len(samples), device=self.device)
        return empty.index_add(0, owner, found), empty.index_add(0, owner, torch.ones_like(found))

    def _tokens(self, model: Network, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """The log-probabilities of all tokens of the answers, and the samples that they are of."""
        ids, layout = self._packed(samples)
        weights = torch.tensor([w for sample in samples for w in [*sample.weights[1:], 0.0]], device=self.device)
        owner = torch.tensor([row for row, sample in enumerate(samples) for _ in sample.ids], device=self.device)
        counted = (weights > 0).nonzero().squeeze(1)
        places = pad(counted, (0, spare(len(counted))))
        hidden, shape = model(ids, layout)[places], model.shape
        found = token_logps(hidden, model.head, ids[places + 1], shape.logit_scale, shape.logit_cap)
        return found[: len(counted)], owner[counted]

    def _packed(self, samples: Sequence[Sample]) -> tuple[Tensor, Rows]:
        ids = torch.tensor([token for sample in samples for token in sample.ids], device=self.device)
        more = spare(len(ids))
        return pad(ids, (0, more)), Rows.of([len(sample.ids) for sample in samples], self.device, more)


def _windows(lengths: Sequence[int]) -> list[slice]:
    """Texts side by side, in parts of at most AT_ONCE tokens."""
    begins, room = [0], AT_ONCE
    for index, length in enumerate(lengths):
        if length > room and index > begins[-1]:
            begins.append(index)
            room = AT_ONCE
        room -= length
    return [slice(begin, end) for begin, end in zip(begins, [*begins[1:], len(lengths)], strict=True)]


def _answered(prompt: Sample, answer: list[int]) -> Sample:
    weights = [0.0] * len(prompt.ids) + [1.0] * len(answer)
    return Sample(array("i", [*prompt.ids, *answer]), array("f", weights), False)


@contextmanager
def bare(linears: Mapping[str, Linear]) -> Iterator[None]:
    """The base alone: its adapters taken off for as long."""
    adapters = {path: linear.adapter for path, linear in linears.items()}
    for linear in linears.values():
        linear.adapter = None
    try:
        yield
    finally:
        for path, linear in linears.items():
            linear.adapter = adapters[path]
