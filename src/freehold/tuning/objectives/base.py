"""The contract of an objective, and what it is given to compute with."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from freehold.data.rows import AnyRow
from freehold.tuning.render import Renderer, Sample


class Example(NamedTuple):
    """What is learned at once: one sequence, or several that are compared with each other."""

    samples: tuple[Sample, ...]
    number: int
    """Among the examples of its file."""
    label: float = 0.0
    question: str = ""
    reference: str = ""
    """What a right answer says, where answers are drawn."""
    whole: bool = False
    """Whether something is learned of it as a whole, and not by what comes next."""

    @property
    def tokens(self) -> int:
        """Of all its sequences."""
        return sum(len(sample.ids) for sample in self.samples)

    @property
    def supervised(self) -> bool:
        """Whether something is left to learn in each sequence."""
        return all(bool(sample.ids) if self.whole else sample.supervised for sample in self.samples)


class Drawn(NamedTuple):
    """Answers to one prompt: with it as samples, and what each is worth, [answers]."""

    samples: tuple[Sample, ...]
    worth: Tensor


class Policy(Protocol):
    """The model that is trained. Sums and counts are of the tokens that the assistant wrote, [sequences]."""

    beta: float
    """How much it costs to leave the model that training began with."""
    scale: float
    """What cosines are multiplied by before they are compared."""

    def loss(self, samples: Sequence[Sample]) -> Tensor:
        """Mean cross-entropy per weighted token."""

    def answers(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the answers, summed, and the tokens of each."""

    def reference(self, examples: Sequence[Example]) -> Tensor:
        """The same sums from the model that training began with, [examples, sequences of each]."""

    def draw(self, example: Example) -> Drawn:
        """New answers to a prompt."""

    def compared(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
        """For each token of the answers: its log-probability, that by the first model, and the sample that it is of."""

    def classified(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """How much each label is for each text, [examples, labels], and the numbers of the right ones, [examples]."""

    def embedded(self, samples: Sequence[Sample]) -> Tensor:
        """The vector of each text, of length 1, [samples, hidden]."""


class Objective(Protocol):
    """One aim of training."""

    rows: type[AnyRow]
    """The kind of rows that it learns from."""
    compares: bool
    """Whether it asks for the model that training began with."""
    apart: bool
    """Whether the loss of some examples is the mean of the losses of each, by their weights."""

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """One for each row, in order; those in which nothing is left to learn too."""

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """The mean loss of some examples."""

    def weight(self, examples: Sequence[Example]) -> float:
        """What the mean loss of these counts in a mean over more."""
