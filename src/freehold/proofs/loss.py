"""What quantisation loses, in numbers: a quantised model beside the one that it was made from, on the same text."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from freehold.core.digest import Digest
from freehold.engines.llamacpp.scorer import Compared
from freehold.proofs.facts import Fact

SCHEMA = 1
Progress = Callable[[int, int], None]


class Loss(msgspec.Struct, frozen=True):
    """How a quantised model differs from the unquantised one, over all predictions of the text."""

    kl_mean: float
    """Kullback-Leibler divergence of the unquantised model's distribution of the next token to this one's, in nats."""
    kl_error: float
    """The standard error of that mean, as if predictions were independent."""
    kl_p99: float
    """The divergence that 99 % of predictions stay below."""
    top1: float
    """The share of predictions in which both have the same likeliest token."""
    perplexity: float

    @classmethod
    def of(cls, compared: Compared) -> "Loss":
        """The figures of a comparison."""
        divergence = compared.divergence.astype(np.float64)
        return cls(
            kl_mean=_rounded(divergence.mean()),
            kl_error=_rounded(divergence.std() / math.sqrt(len(divergence))),
            kl_p99=_rounded(np.quantile(divergence, 0.99)),
            top1=_rounded(compared.same_top.mean()),
            perplexity=perplexity(compared.logprobs),
        )


def perplexity(logprobs: NDArray[np.float32]) -> float:
    """The exponential of the mean negative log-probability of the tokens that came."""
    return _rounded(math.exp(min(700.0, -float(logprobs.astype(np.float64).mean()))))


def _rounded(value: float) -> float:
    """Six significant digits: what lies below differs between machines."""
    return float(f"{float(value):.6g}")


class Measured(msgspec.Struct, frozen=True):
    """One candidate: its type and size in bytes, and what it loses if that was measured."""

    type: str
    size: int
    subject: Digest | None = None
    """The digest of its file, once made."""
    loss: Loss | None = None

    def facts(self) -> tuple[Fact, ...]:
        """The figures, as facts about the file."""
        if self.subject is None or self.loss is None:
            return ()
        figures: dict[str, str | int | float] = {"type": self.type, "size": self.size}
        figures |= msgspec.structs.asdict(self.loss)
        return tuple(Fact(self.subject, f"quantization.{name}", value, "verified") for name, value in figures.items())


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The loss report: every candidate beside the model that they were made from."""

    base: Digest
    base_size: int
    base_perplexity: float
    text: Digest
    """Of the token ids that were read."""
    predictions: int
    imatrix: bool
    """Whether the candidates were made with an importance matrix."""
    candidates: tuple[Measured, ...]

    def encode(self) -> bytes:
        """The evidence, as canonical JSON."""
        facts = [
            Fact(self.base, "quantization.size", self.base_size, "verified"),
            Fact(self.base, "quantization.perplexity", self.base_perplexity, "verified"),
        ]
        content = {
            "schema": SCHEMA,
            "kind": "quantization",
            "text": self.text,
            "predictions": self.predictions,
            "imatrix": self.imatrix,
            "facts": [*facts, *(fact for candidate in self.candidates for fact in candidate.facts())],
        }
        return msgspec.json.encode(content, order="sorted")


def windows_digest(windows: Sequence[Sequence[int]]) -> Digest:
    """The identity of the text as the models read it."""
    return Digest.of_json([list(window) for window in windows])


def room(windows: Sequence[Sequence[int]], vocabulary: int) -> int:
    """Bytes that the kept distributions of these windows take."""
    return predictions(windows) * vocabulary * 2


def predictions(windows: Sequence[Sequence[int]]) -> int:
    """Tokens that are predicted: all but the first of each window."""
    return sum(len(window) - 1 for window in windows)


def check_room(folder: Path, windows: Sequence[Sequence[int]], vocabulary: int) -> None:
    """Raises DiskFull when the kept distributions do not fit."""
    from freehold.convert.output import check_room

    check_room(folder / "distributions", room(windows, vocabulary))
