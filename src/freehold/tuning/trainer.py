"""The training loop. Everything it does follows from its job; it can be killed anywhere and goes on where it was."""

import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import torch

from freehold.convert import adapter_to_gguf
from freehold.convert.origin import gguf_in
from freehold.core.errors import BadData, BadInput, WorkerFailed
from freehold.core.request import Message
from freehold.data.rows import read_rows
from freehold.tuning import checkpoint, lora, model, optimiser, scratch
from freehold.tuning.batches import batches, schedule
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.job import HeldOutLoss, Progress, Report, TrainJob, TrainResult
from freehold.tuning.precision import choose
from freehold.tuning.render import Renderer, Sample
from freehold.tuning.unpack import file_of, unpack

_EVALUATIONS = 4
"""Times that the held-out loss is measured, the start and the end included."""
_HELD_OUT = 256
"""Held-out rows of which the loss is measured."""
_CLIP = 1.0


class Trainer:
    """One run of one job, in this process."""

    def __init__(self, job: TrainJob, say: Callable[[Report], None]) -> None:
        self.job = job
        self.say = say
        self.stopping = False
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.threads = job.threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(self.threads)
        torch.manual_seed(job.seed)
        torch.use_deterministic_algorithms(True)
        # It would fill every new tensor first; nothing here reads a tensor before writing it.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.compute = choose(job.dtype, self.device)

    def run(self) -> TrainResult:
        """Train to the end, from the last checkpoint if there is one."""
        self._prepare()
        state = checkpoint.load(self.job.out, self.trained, self.optimisers)
        state.resumed += state.step > 0
        started, saved = time.monotonic() - state.seconds, time.monotonic()
        order = schedule(self.samples, self.job.batch_tokens, self.job.seed)
        self._stop_between_steps()
        for batch in islice(order, state.step, self.steps):
            self._measure_held_out(state)
            samples = [self.samples[index] for index in batch]
            state.losses.append(self._step(samples, state.step))
            state.step += 1
            state.tokens += sum(len(sample.ids) for sample in samples)
            state.supervised_tokens += sum(weight == 1.0 for sample in samples for weight in sample.weights[1:])
            state.seconds = time.monotonic() - started
            self._tell(state, samples)
            if self.stopping or time.monotonic() - saved > self.job.checkpoint_seconds:
                checkpoint.save(self.job.out, state, self.trained, self.optimisers)
                saved = time.monotonic()
            if self.stopping:
                raise KeyboardInterrupt
        self._measure_held_out(state)
        return self._finish(state)

    def _prepare(self) -> None:
        self.say(Progress("loading"))
        rows = [row.messages for row in read_rows(self.job.train)]
        self.base = self._base(rows)
        model.check_memory(self.base, self.job)
        template, names = model.chat_template(self.base)
        held_out = read_rows(self.job.held_out)[:_HELD_OUT] if self.job.held_out else []
        with model.encoder(self.base) as encoder:
            renderer = Renderer(
                encoder, template, max_length=self.job.max_length, prompt_weight=self.job.prompt_weight, **names
            )
            rendered = list(renderer.samples(rows))
            aside = list(renderer.samples([row.messages for row in held_out]))
        self.samples = [sample for sample in rendered if sample.supervised]
        self.dropped = len(rendered) - len(self.samples)
        if not self.samples:
            raise BadData(f"no row of {self.job.train.name} has an answer within max_length", "Raise max_length")
        self.held_out = [sample for sample in aside if sample.supervised]
        self._tell_cut(len(rows))
        job = self.job
        full = job.method != "lora"
        dtype = "stored" if full else job.base_dtype
        self.model = model.load(self.base, self.device, self.compute, full=full, base_dtype=dtype)
        self.trained = self.model.parameters
        if job.method == "lora":
            self.trained = lora.attach(self.model.linears, job.rank, job.alpha, job.seed, self.device)
        self.optimisers = optimiser.build(self.trained, job.method, job.learning_rate, job.weight_decay, self.compute)
        per_epoch = len(batches(self.samples, self.job.batch_tokens, self.job.seed, 0))
        self.steps = self.job.steps or max(1, round(self.job.epochs * per_epoch))

    def _stop_between_steps(self) -> None:
        """From here on an interrupt waits for the step to end, so that the checkpoint is of a whole step."""

        def stop(*_: object) -> None:
            self.stopping = True

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)

    def _base(self, rows: Sequence[Sequence[Message]]) -> Path:
        """The base as a folder."""
        if self.job.base is None:
            return self._make_base(rows)
        return self.job.base if gguf_in(self.job.base) is None else unpack(self.job.base, self.job.out / "base")

    def _make_base(self, rows: Sequence[Sequence[Message]]) -> Path:
        if self.job.method != "scratch":
            raise BadInput(f"method {self.job.method} needs a base", "Name one in [model] base")
        folder = self.job.out / "base"
        if not (folder / "config.json").exists():
            scratch.make(folder, rows, self.job.architecture, self.job.seed)
        return folder

    def _step(self, samples: Sequence[Sample], step: int) -> float:
        scale = optimiser.rate(step, self.steps, self.job.warmup)
        for one in self.optimisers:
            for group in one.param_groups:
                group["lr"] = self.job.learning_rate * scale
            one.zero_grad(set_to_none=True)
        loss = self._loss(samples)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), _CLIP)
        value = loss.item()
        if not (torch.isfinite(norm) and value == value):
            raise WorkerFailed(
                f"the loss is not a number at step {step}", "Lower learning_rate; the last checkpoint is kept"
            )
        for one in self.optimisers:
            one.step()
        return value

    def _loss(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Mean loss per weighted token, in nats."""
        ids = torch.tensor([token for sample in samples for token in sample.ids], device=self.device)
        weights = torch.tensor([w for sample in samples for w in [*sample.weights[1:], 0.0]], device=self.device)
        layout = Rows.of([len(sample.ids) for sample in samples], self.device)
        counted = weights.nonzero().squeeze(1)
        hidden = self.model(ids, layout)
        scale = self.model.shape.logit_scale
        total = head_loss(hidden[counted], self.model.head, ids[counted + 1], weights[counted], scale)
        return total / weights.sum()

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        loss = weight = 0.0
        for batch in batches(self.held_out, self.job.batch_tokens, 0, 0):
            samples = [self.held_out[index] for index in batch]
            mass = sum(sum(sample.weights[1:]) for sample in samples)
            loss += self._loss(samples).item() * mass
            weight += mass
        return loss / weight

    def _measure_held_out(self, state: checkpoint.State) -> None:
        points = {self.steps * part // (_EVALUATIONS - 1) for part in range(_EVALUATIONS)}
        done = {point.step for point in state.held_out_losses}
        if self.held_out and state.step in points - done:
            state.held_out_losses.append(HeldOutLoss(state.step, self._held_out_loss()))

    def _tell(self, state: checkpoint.State, samples: Sequence[Sample]) -> None:
        speed = state.tokens / max(state.seconds, 1e-9)
        left = (self.steps - state.step) * state.seconds / state.step
        self.say(Progress("training", state.step, self.steps, state.losses[-1], speed, left))

    def _tell_cut(self, rows: int) -> None:
        self.cut = sum(sample.cut for sample in self.samples)
        if self.cut or self.dropped:
            self.say(
                Progress(
                    "loading",
                    note=f"of {rows} rows, {self.cut} are longer than {self.job.max_length} tokens and lose their end; "
                    f"{self.dropped} have no answer left and are not used",
                )
            )

    def _finish(self, state: checkpoint.State) -> TrainResult:
        self.say(Progress("saving", self.steps, self.steps))
        adapted = self.job.method == "lora"
        out = self.job.out / ("adapter" if adapted else "model")
        if adapted:
            file = file_of(self.base)
            name = self.base.name if file is None else file.readlink().name
            lora.save(self.trained, out, rank=self.job.rank, alpha=self.job.alpha, base=name)
            if file is not None:
                adapter_to_gguf(out, file, self.job.out / "adapter.gguf")
        else:
            model.save(self.trained, self.base, out)
        checkpoint.drop(self.job.out)
        return TrainResult(
            model=out,
            method=self.job.method,
            steps=self.steps,
            tokens=state.tokens,
            supervised_tokens=state.supervised_tokens,
            seconds=state.seconds,
            losses=tuple(state.losses),
            held_out_losses=tuple(state.held_out_losses),
            rows=len(self.samples),
            rows_cut=self.cut,
            rows_dropped=self.dropped,
            dtype="f32" if self.compute == torch.float32 else "bf16",
            threads=self.threads,
            trainable=sum(p.numel() for p in self.trained.values()),
            resumed=state.resumed,
            peak_rss=peak_rss(),
        )


def peak_rss() -> int:
    """Bytes of memory that this process held at most. Linux's getrusage would count its parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text("ascii").partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
