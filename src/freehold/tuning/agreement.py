"""Does a served model say what was learned? Its answers beside those of the trainer's own decoder.

All answers are read at once: where each token is the likeliest behind those before it, the decoder would have said the
same, and nothing need be generated. Only where one is not, the decoder answers itself.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import torch

from freehold.convert import origin
from freehold.core.errors import BadData
from freehold.core.request import Message
from freehold.data.rows import Row, read_rows
from freehold.tuning import lora, model
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.loss import log_probabilities
from freehold.tuning.decoder.model import Decoder
from freehold.tuning.decoder.sampling import sample
from freehold.tuning.job import Agreed, Compared, CompareJob, Progress, Said
from freehold.tuning.render import Encoder, Renderer, Sample
from freehold.tuning.unpack import unpack

_TOKENS = 4096
"""Read at once."""
_NUMBERS = 1 << 23
"""Logits held at a time: 32 MB of them."""
_THOUGHT = "</think>"
"""What ends the part of an answer that is served apart."""
_COLD = 1e-6
"""A temperature at which nothing but the likeliest token is ever drawn."""
_CPU = torch.device("cpu")


class _Read(NamedTuple):
    """One answer as tokens."""

    ids: list[int]
    """Of prompt and answer."""
    begin: int
    """Where the answer begins."""


def compare(job: CompareJob, say: Callable[[Progress], None]) -> Compared:
    """All answers. Raises BadModelFile, Unsupported, BadData."""
    if job.threads:
        torch.set_num_threads(job.threads)
    say(Progress("loading"))
    # As the trainer opens it.
    folder = unpack(job.model, job.out / "base") if origin.gguf_in(job.model) else job.model
    decoder = model.load(folder, _CPU, torch.float32, full=False)
    if job.adapter is not None:
        lora.restore(decoder.linears, job.adapter)
    asked = read_rows(job.rows)
    if len(asked) != len(job.said):
        raise BadData(f"{len(job.said)} answers to {len(asked)} questions", "Give one for each")
    template, names = model.chat_template(folder)
    with model.encoder(folder) as encoder, torch.no_grad():
        renderer = Renderer(encoder, template, max_length=1 << 20, prompt_weight=0.0, **names)
        return Compared(tuple(_Teller(job, decoder, encoder, renderer, model.ends(folder, encoder)).agreed(asked, say)))


class _Teller:
    """The trained model, and what is needed to ask it."""

    def __init__(self, job: CompareJob, decoder: Decoder, encoder: Encoder, renderer: Renderer, ends: set[int]) -> None:
        self._job, self._decoder, self._encoder, self._renderer, self._ends = job, decoder, encoder, renderer, ends

    def agreed(self, asked: Sequence[Row], say: Callable[[Progress], None]) -> Iterator[Agreed]:
        """Each of the job's answers, in their order."""
        answered = [
            msgspec.structs.replace(row, messages=(*row.messages[:-1], Message("assistant", said.answer)), weights=())
            for row, said in zip(asked, self._job.said, strict=True)
        ]
        reads = [self._read(*each) for each in zip(self._renderer.samples(answered), self._job.said, strict=True)]
        done = 0
        for part in _parts(reads):
            for gap, read in zip(self._gaps(part), part, strict=True):
                said = self._job.said[done]
                yield Agreed(True) if gap is None or self._told(read) == said.answer else Agreed(False, gap)
                done += 1
                say(Progress("comparing", done, len(reads)))

    def _read(self, found: Sample, said: Said) -> _Read:
        """Up to the token that ends the answer, if the model itself ended it."""
        ids, counts = list(found.ids), [weight > 0 for weight in found.weights]
        end = next((at + 1 for at in reversed(range(len(ids))) if counts[at]), len(ids))
        begin = next((at + 1 for at in reversed(range(end)) if not counts[at]), end)
        last = next((at for at in range(begin, len(ids)) if ids[at] in self._ends), len(ids))
        return _Read(ids[: last + said.whole], begin)

    def _gaps(self, part: Sequence[_Read]) -> Iterator[float | None]:
        """For each answer the nats by which another token is likelier than its first that is not the likeliest."""
        ids = torch.tensor([token for read in part for token in read.ids])
        hidden = self._decoder(ids, Rows.of([len(read.ids) for read in part], _CPU))
        at = 0
        for read in part:
            places = slice(at + read.begin - 1, at + len(read.ids) - 1)
            yield self._gap(hidden[places], torch.tensor(read.ids[read.begin :]))
            at += len(read.ids)

    def _gap(self, hidden: torch.Tensor, said: torch.Tensor) -> float | None:
        if not len(said):
            return 0.0
        shape, head = self._decoder.shape, self._decoder.head.dense(torch.float32)
        size = max(1, _NUMBERS // shape.vocab)
        for rows in (slice(begin, begin + size) for begin in range(0, len(said), size)):
            logp, _ = log_probabilities(hidden[rows], head, shape.logit_scale, shape.logit_cap)
            gaps = logp.max(-1).values - logp.gather(1, said[rows, None]).squeeze(1)
            if wrong := (gaps > 0).nonzero().flatten().tolist():
                return float(gaps[wrong[0]])
        return None

    def _told(self, read: _Read) -> str:
        """What the decoder says itself: other tokens can spell the same."""
        draw = torch.Generator().manual_seed(0)
        prompt = read.ids[: read.begin]
        most = self._job.max_tokens
        [ids] = sample(self._decoder, prompt, count=1, most=most, ends=self._ends, draw=draw, temperature=_COLD)
        return self._encoder.decode(ids, skip_special_tokens=True).rpartition(_THOUGHT)[2].strip()


def _parts(reads: Sequence[_Read]) -> Iterator[list[_Read]]:
    """Some at a time, of no more than _TOKENS together unless one alone has more."""
    part: list[_Read] = []
    for read in reads:
        if part and sum(len(each.ids) for each in part) + len(read.ids) > _TOKENS:
            yield part
            part = []
        part.append(read)
    if part:
        yield part
