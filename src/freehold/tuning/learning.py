"""The loss of examples, and its gradient in what is trained: shared out among processes where that is faster."""

from collections.abc import Sequence

import torch
from torch.nn import Parameter

from freehold.tuning.aim import Aim
from freehold.tuning.batches import batches
from freehold.tuning.objectives.base import Example, Objective
from freehold.tuning.policy import Policy, spare
from freehold.tuning.sharing import Compute, Crew, Learned, Share

_MEASURED = -1
"""The step that measurements draw answers as: none that is learned from."""


class Learner:
    """Finds losses and gradients for one policy. A `crew`, made to do `computing`, takes shares of the examples."""

    def __init__(
        self, objective: Objective, aim: Aim, policy: Policy, trained: Sequence[Parameter], crew: Crew | None
    ) -> None:
        self.objective, self.aim, self.policy, self.trained, self.crew = objective, aim, policy, trained, crew

    def learn(self, examples: Sequence[Example]) -> float:
        """The loss, with its gradient in what is trained."""
        made = self._apart(examples, learning=True)
        if not made:
            return sum(map(_learned, self.aim.losses(self.objective, self.policy, examples)))
        (_, gradients), *others = made
        for _, more in others:
            torch._foreach_add_(gradients, more)
        for parameter, gradient in zip(self.trained, gradients, strict=True):
            parameter.grad = gradient
        return sum(loss for loss, _ in made)

    def sizes(self, examples: Sequence[Example]) -> list[int]:
        """The tokens that each process computes with, those that nobody reads included."""
        parts = self.crew.shared(examples) if self.crew is not None else [examples]
        tokens = [sum(example.tokens for example in part) for part in parts]
        return [each + spare(each) for each in tokens]

    def value(self, examples: Sequence[Example]) -> float:
        """The loss alone."""
        made = self._apart(examples, learning=False)
        return sum(loss for loss, _ in made) if made else self.objective.loss(self.policy, examples).item()

    @torch.no_grad()
    def mean(self, examples: Sequence[Example], batch_tokens: int) -> float:
        """The loss of held-out examples, by batches. Answers are the same draws each time it is asked for.

        So measurements differ by what was learned, and a run that goes on has those of before.
        """
        loss = weight = 0.0
        self.policy.at(_MEASURED)
        for batch in batches([each.tokens for each in examples], batch_tokens, 0, 0):
            some = [examples[index] for index in batch]
            mass = self.objective.weight(some)
            loss += self.value(some) * mass
            weight += mass
        return loss / weight

    def _apart(self, examples: Sequence[Example], *, learning: bool) -> list[Learned]:
        """What processes found, each of its part; nothing where all is computed here at once."""
        parts = self.crew.shared(examples) if self.crew is not None else []
        if self.crew is None or len(parts) < 2:
            return []
        return self.crew.each(self._work(parts, learning=learning))

    def _work(self, parts: Sequence[Sequence[Example]], *, learning: bool) -> list[Share]:
        whole, known = sum(map(self.objective.weight, parts)), self.policy.known
        if self.objective.compares:
            # Once for all of them; it is kept, and in a checkpoint too.
            self.policy.reference([example for part in parts for example in part])
        return [
            Share(part, whole, learning, {e.number: known[e.number].tolist() for e in part if e.number in known})
            for part in parts
        ]


def computing(objective: Objective, policy: Policy, trained: Sequence[Parameter]) -> Compute:
    """What a process does with its share: its part of the loss of all, and of its gradient."""

    def compute(share: Share) -> Learned:
        policy.known |= {number: torch.tensor(sums) for number, sums in share.known.items()}
        with torch.set_grad_enabled(share.learning):
            part = objective.weight(share.examples) / share.whole
            loss = objective.loss(policy, share.examples) * part
        found = torch.autograd.grad(loss, trained, materialize_grads=True) if share.learning else ()
        return loss.item(), found

    return compute


def _learned(loss: torch.Tensor) -> float:
    """A loss, once its gradient was added to that of what is trained."""
    torch.autograd.backward(loss)
    return loss.item()
