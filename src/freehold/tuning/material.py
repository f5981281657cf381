"""What a run learns from: its base as a folder, and its rows as examples that the base's tokenizer made."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from freehold.convert.origin import gguf_in
from freehold.core.errors import BadData, BadInput, BadModelFile, Unsupported
from freehold.data.rows import AnyRow, read_kind, texts
from freehold.tuning import asking, model, scratch
from freehold.tuning.aim import Aim
from freehold.tuning.answers import Answers
from freehold.tuning.classifier import Labels
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.embedder import Vectors
from freehold.tuning.job import Progress, Report, TrainJob
from freehold.tuning.objectives import tokens
from freehold.tuning.objectives.base import Example, Objective
from freehold.tuning.render import Renderer, Sample
from freehold.tuning.unpack import unpack

_HELD_OUT = 256
"""Held-out rows of which the loss is measured."""
_NO_DORA = "Use method = 'lora', or a base of safetensors"
_AIMS: dict[str, type[Aim]] = {"classify": Labels, "embed": Vectors, "grpo": Answers}
_WITHOUT_TEMPLATE = ("text", "tokens", "classify", "embed")


class Material:
    """One run's. Making it tells of rows that are cut or left out, and raises BadInput, BadData, BadModelFile and
    Unsupported. What it opens is closed with `opened`.
    """

    def __init__(self, job: TrainJob, objective: Objective, opened: ExitStack, say: Callable[[Report], None]) -> None:
        self.job, self.objective = job, objective
        rows = self._rows(job.train)
        self.base = self._base(rows)
        self.aim = _AIMS.get(job.objective, Aim)(job, self.base)
        self.encoder = opened.enter_context(model.encoder(self.base))
        renderer = self._renderer()
        made = list(objective.examples(rows, renderer))
        self.examples = [example for example in made if example.supervised]
        self.dropped = len(made) - len(self.examples)
        self._check_learnable(made)
        kept = self._rows(job.held_out)[:_HELD_OUT] if job.held_out else ()
        held_out = objective.examples(kept, renderer)
        # Numbers of their own: what is known of an example goes by its number.
        self.held_out = [each._replace(number=-1 - each.number) for each in held_out if each.supervised]
        asks = self.held_out and job.evaluations and not job.probe
        self.asked = asking.chosen(kept, renderer) if asks else []
        """What the model is asked where the loss of held-out rows is measured."""
        self.cut = sum(any(sample.cut for sample in example.samples) for example in self.examples)
        for note in (self._left_out(len(rows)), _joined(renderer.joined), _apart(renderer.apart)):
            if note:
                say(Progress("loading", note=note))
        self._check_tokens()

    def samples(self) -> Iterator[Sample]:
        """All texts, held out ones too."""
        return (sample for example in (*self.examples, *self.held_out) for sample in example.samples)

    def _rows(self, path: Path) -> Sequence[Any]:
        return tokens.read(path) if self.job.objective == "tokens" else read_kind(path, self.objective.rows)

    def _base(self, rows: Sequence[AnyRow]) -> Path:
        """The base as a folder."""
        if self.job.base is None:
            return self._make_base(rows)
        if gguf_in(self.job.base) is None:
            return self.job.base
        if self.job.method == "dora":
            raise Unsupported(f"{self.job.base} is a GGUF file, beside which an adapter has no magnitudes", _NO_DORA)
        return unpack(self.job.base, self.job.out / "base")

    def _make_base(self, rows: Sequence[AnyRow]) -> Path:
        if self.job.method != "scratch":
            raise BadInput(f"method {self.job.method} needs a base", "Name one in [model] base")
        folder = self.job.out / "base"
        if not (folder / "config.json").exists():
            scratch.make(folder, [texts(row) for row in rows], self.job.architecture, self.job.seed)
        return folder

    def _renderer(self) -> Renderer:
        template, names = model.chat_template(self.base, needed=self.job.objective not in _WITHOUT_TEMPLATE)
        return Renderer(
            self.encoder,
            template,
            max_length=self.job.max_length,
            prompt_weight=self.job.prompt_weight,
            **names,
        )

    def _check_learnable(self, made: Sequence[Example]) -> None:
        """Raises BadData where no loss could be computed."""
        if self.examples:
            return
        if any(sample.cut for example in made for sample in example.samples):
            raise BadData(f"no row of {self.job.train.name} has an answer within max_length", "Raise max_length")
        raise BadData(
            f"no row of {self.job.train.name} has an answer that counts", "Give answers a weight, or write them"
        )

    def _check_tokens(self) -> None:
        """Raises BadModelFile for a base whose tokenizer has tokens that it does not know itself."""
        if self.job.method == "scratch":
            return
        most, vocab = max(max(sample.ids) for sample in self.samples()), Shape.read(self.base).vocab
        if most >= vocab:
            raise BadModelFile(
                f"the rows have token {most}, and {self.base.name} knows only {vocab}",
                "Use a base and a tokenizer that belong together",
            )

    def _left_out(self, rows: int) -> str:
        if not (self.cut or self.dropped):
            return ""
        return (
            f"of {rows} rows, {self.cut} are longer than {self.job.max_length} tokens and lose their end; "
            f"{self.dropped} have no answer left and are not used"
        )


def _joined(answers: int) -> str:
    if not answers:
        return ""
    return (
        f"{answers} answers begin in one token with the space that ends the chat template's prompt: "
        "the server has that as a token of its own, so take it out of the template"
    )


def _apart(rows: int) -> str:
    if not rows:
        return ""
    return (
        f"{rows} conversations are learned as several texts each: the chat template shows their earlier answers "
        "otherwise than it asked for them, most likely without thoughts"
    )
