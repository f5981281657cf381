"""Quantising with evidence: candidates of several types, each measured against the model that it is made from.

One model at a time is in memory, and the unquantised model's distributions lie on the disk as float16 meanwhile.
Everything happens in a folder of its own; what is kept moves from there into the store at the end.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from freehold import convert
from freehold.convert import imatrix
from freehold.convert.quantizer import plan
from freehold.convert.types import TYPES, quant_type
from freehold.core.digest import Digest
from freehold.core.errors import BadInput, GateFailed
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp.scorer import Progress, scorer
from freehold.formats.atomic import size_text
from freehold.proofs import loss, texts
from freehold.proofs.loss import Loss, Measured, Report
from freehold.proofs.texts import Texts, Windows

CALIBRATION = 16384
"""Tokens that an importance matrix is made of, if the text has them."""
MEASURED = 4096
"""Tokens that candidates are measured on, if the text has them."""
_WHOLE = ("F32", "F16", "BF16")
_TRIED = 3
"""Types that are compared for a size, when nobody says which."""
Say = Callable[[str], Progress]
"""Names a stage; gives what to call with its progress."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Without a target or a limit every type of `types` is kept, else the one that satisfies."""

    types: tuple[str, ...] = ()
    """None for all."""
    target: int = 0
    """Bytes that the file may have; 0 for any number."""
    max_kl: float | None = None
    measure: bool = False
    tokens: int = MEASURED

    @property
    def picks(self) -> bool:
        """Whether one of several is to be picked."""
        return bool(self.target) or self.max_kl is not None

    def names(self, weighted: bool = False) -> list[str]:
        """The types to consider, each once, as llama.cpp spells them. Raises Unsupported, BadInput.

        `weighted` says that there is an importance matrix, without which the coarsest is none to consider.
        """
        named = [quant_type(name.strip()).name for name in self.types if name.strip()]
        if not named and not self.picks:
            raise BadInput("no type to quantise to", "Name one: --to Q4_K_M, or let --target or --max-kl pick")
        return list(dict.fromkeys(named)) or [
            kind.name for kind in TYPES.values() if kind.name not in _WHOLE and (weighted or not kind.weighted)
        ]


@dataclass(frozen=True)
class Made:
    """A candidate's figures and its file, which is gone where it was not picked."""

    measured: Measured
    path: Path


@dataclass
class Bench:
    """Where candidates of one source are made and measured: a folder, with the source's distributions in it."""

    source: Path
    label: str
    folder: Path
    threads: int
    say: Say
    importance: imatrix.Importance | None = None
    windows: Windows | None = None
    base_perplexity: float = 0.0

    @property
    def _kept(self) -> Path:
        return self.folder / "distributions"

    def read(self, given: Texts, *, measured: int, calibrated: int) -> None:
        """Let the source read the text: an importance matrix from one part, distributions to compare with of another.

        Raises BadInput when the text is too short, DiskFull, BadModelFile, Unsupported.
        """
        asyncio.run(self._read(given, measured, calibrated))

    async def _read(self, given: Texts, measured: int, calibrated: int) -> None:
        model = ModelFile(self.source, self.label)
        async with scorer(model, threads=self.threads, collecting=bool(calibrated)) as one:
            self.windows = await texts.windows(given, one, measured=measured, calibrated=calibrated)
            if calibrated:
                on_progress = self.say("reading for the importance matrix")
                self.importance = await imatrix.measure(one, self.windows.calibration, on_progress)
            vocabulary = one.vocabulary
        if measured:
            loss.check_room(self.folder, self.windows.held_out, vocabulary)
            async with scorer(model, threads=self.threads) as one:
                said = await one.keep(self.windows.held_out, self._kept, self.say(f"measuring {self.label}"))
            self.base_perplexity = loss.perplexity(said)

    def size(self, type_name: str) -> int:
        """Bytes that the file of this type will have."""
        return plan(self.source, type_name, self.importance).size

    def make(self, type_name: str) -> Made:
        """Quantise, and measure if there is text."""
        path = self.folder / f"{type_name}.gguf"
        on_progress = self.say(f"quantising to {type_name}")
        convert.quantize(
            self.source, path, type_name, threads=self.threads, importance=self.importance, on_progress=on_progress
        )
        figures = self._measure(path, type_name) if self.windows and self.windows.held_out else None
        return Made(Measured(type_name, path.stat().st_size, Digest.of_file(path), figures), path)

    def _measure(self, path: Path, type_name: str) -> Loss:
        async def compare() -> Loss:
            model = ModelFile(path, type_name)
            async with scorer(model, threads=self.threads) as one:
                held_out = self.windows.held_out if self.windows else []
                return Loss.of(await one.compare(held_out, self._kept, self.say(f"measuring {type_name}")))

        return asyncio.run(compare())

    def report(self, base: Digest, made: Sequence[Made]) -> Report | None:
        """The figures of all that was made; None when nothing was measured."""
        if not self.windows or not self.windows.held_out:
            return None
        return Report(
            base=base,
            base_size=self.source.stat().st_size,
            base_perplexity=self.base_perplexity,
            text=loss.windows_digest(self.windows.held_out),
            predictions=loss.predictions(self.windows.held_out),
            imatrix=self.importance is not None,
            candidates=tuple(each.measured for each in made),
        )


def candidates(bench: Bench, wish: Wish) -> list[Measured]:
    """The types that are considered with the sizes they will have, smallest first. Raises GateFailed if none fits."""
    sized = sorted(
        (Measured(name, bench.size(name)) for name in wish.names(bench.importance is not None)),
        key=lambda found: found.size,
    )
    fitting = [found for found in sized if not wish.target or found.size <= wish.target]
    if not fitting:
        raise GateFailed(
            f"no type makes {bench.label} as small as {size_text(wish.target)}: "
            f"{sized[0].type} comes nearest with {size_text(sized[0].size)}",
            "Raise --target, allow other types, or take a smaller model",
        )
    return fitting


def make(bench: Bench, wish: Wish) -> tuple[list[Made], list[Made]]:
    """(what to keep, all that was made). Raises GateFailed naming the nearest when nothing satisfies the wish."""
    fitting = candidates(bench, wish)
    if wish.max_kl is not None:
        return _first_within(bench, fitting, wish.max_kl)
    if not wish.target:
        made = [bench.make(found.type) for found in fitting]
        return made, made
    tried = fitting if wish.types else fitting[-_TRIED:]
    if not wish.measure:
        made = [bench.make(tried[-1].type)]  # the most bits that fit
        return made, made
    return _best(bench, tried)


def _first_within(bench: Bench, fitting: Sequence[Measured], max_kl: float) -> tuple[list[Made], list[Made]]:
    """The smallest whose mean divergence is small enough."""
    made: list[Made] = []
    for found in fitting:
        made.append(bench.make(found.type))
        if _divergence(made[-1]) <= max_kl:
            return [made[-1]], made
        made[-1].path.unlink()
    nearest = min(made, key=_divergence)
    raise GateFailed(
        f"no type keeps {bench.label} within a KL divergence of {max_kl:g}: "
        f"{nearest.measured.type} comes nearest with {_divergence(nearest):.4g}",
        "Raise --max-kl or --target, or allow other types",
    )


def _best(bench: Bench, tried: Sequence[Measured]) -> tuple[list[Made], list[Made]]:
    """The one that loses least."""
    made: list[Made] = []
    best: Made | None = None
    for found in tried:
        made.append(bench.make(found.type))
        worse = best if best is None or _divergence(made[-1]) < _divergence(best) else made[-1]
        best = made[-1] if worse is not made[-1] else best
        if worse is not None:
            worse.path.unlink()
    return ([best] if best else []), made


def _divergence(made: Made) -> float:
    return made.measured.loss.kl_mean if made.measured.loss else 0.0
