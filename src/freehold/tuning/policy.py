"""The model that is trained, as objectives see it: losses and log-probabilities of samples, its own and its base's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.functions import Linear
from freehold.tuning.decoder.logps import token_logps
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.decoder.model import Decoder
from freehold.tuning.objectives.base import Example
from freehold.tuning.render import Sample


class Policy:
    """Computes with one decoder. `base` is the model that training began with, where adapters cannot be taken off."""

    def __init__(self, model: Decoder, device: torch.device, beta: float, base: Decoder | None = None) -> None:
        self.model, self.device, self.beta, self.base = model, device, beta, base
        self._known: dict[int, Tensor] = {}

    def loss(self, samples: Sequence[Sample]) -> Tensor:
        """Mean loss per weighted token, in nats."""
        ids, layout = self._packed(samples)
        weights = torch.tensor([w for sample in samples for w in [*sample.weights[1:], 0.0]], device=self.device)
        counted = weights.nonzero().squeeze(1)
        hidden = self.model(ids, layout)
        scale = self.model.shape.logit_scale
        total = head_loss(hidden[counted], self.model.head, ids[counted + 1], weights[counted], scale)
        return total / weights.sum()

    def answers(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Sums of the log-probabilities of each sample's answer, and the tokens of each, [samples]."""
        return self._answers(self.model, samples)

    def reference(self, examples: Sequence[Example]) -> Tensor:
        """The sums by the model that training began with, computed once for each example."""
        new = [example for example in examples if example.number not in self._known]
        if new:
            samples = [sample for example in new for sample in example.samples]
            with torch.no_grad(), nullcontext() if self.base else bare(self.model.linears):
                sums, _ = self._answers(self.base or self.model, samples)
            for example, found in zip(new, sums.view(len(new), -1).cpu(), strict=True):
                self._known[example.number] = found
        return torch.stack([self._known[example.number] for example in examples]).to(self.device)

    def forget(self) -> None:
        """Forget what is known of examples: others with the same numbers come."""
        self._known.clear()

    def _answers(self, model: Decoder, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        ids, layout = self._packed(samples)
        weights = torch.tensor([w for sample in samples for w in [*sample.weights[1:], 0.0]], device=self.device)
        owner = torch.tensor([row for row, sample in enumerate(samples) for _ in sample.ids], device=self.device)
        counted = (weights > 0).nonzero().squeeze(1)
        hidden = model(ids, layout)[counted]
        found = token_logps(hidden, model.head, ids[counted + 1], model.shape.logit_scale)
        empty = torch.zeros(len(samples), device=self.device)
        return empty.index_add(0, owner[counted], found), empty.index_add(0, owner[counted], torch.ones_like(found))

    def _packed(self, samples: Sequence[Sample]) -> tuple[Tensor, Rows]:
        ids = torch.tensor([token for sample in samples for token in sample.ids], device=self.device)
        return ids, Rows.of([len(sample.ids) for sample in samples], self.device)


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
