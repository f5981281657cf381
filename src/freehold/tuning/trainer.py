"""The training loop. Everything it does follows from its job; it can be killed anywhere and goes on where it was."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from freehold.core.errors import BadData, BadInput, WorkerFailed
from freehold.core.request import Message
from freehold.data.rows import read_rows
from freehold.tuning import checkpoint, lora, memory, model, optimiser, scratch
from freehold.tuning.batches import batches, schedule
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.job import ADAPTERS, HeldOutLoss, Progress, Report, TrainJob, TrainPlan, TrainResult
from freehold.tuning.memory import Watch
from freehold.tuning.precision import choose
from freehold.tuning.probing import probe, seconds_per_token
from freehold.tuning.render import Renderer, Sample
from freehold.tuning.stopping import Best, points

_HELD_OUT = 256
"""Held-out rows of which the loss is measured."""
_CLIP = 1.0
_PROBE = 20.0
"""Seconds of trying, at most, before steps are planned for a time."""
_LOOK = 20_000
"""Steps whose tokens stand for those of all."""


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

    def run(self) -> TrainResult | TrainPlan:
        """Train to the end, from the last checkpoint if there is one; or try it, where the job asks for a plan."""
        self.job.out.mkdir(parents=True, exist_ok=True)
        with Watch() as self.watch:
            self._prepare()
            return self._probe() if self.job.probe else self._train()

    def _train(self) -> TrainResult:
        state = checkpoint.load(self.job.out, self.trained, self.optimisers)
        state.resumed += state.step > 0
        self._stop_between_steps()
        self._plan_steps(state)
        started, saved = time.monotonic() - state.seconds, time.monotonic()
        for batch in islice(self._schedule(), state.step, self.steps):
            if self._measure_held_out(state):
                break
            samples = [self.samples[index] for index in batch]
            state.losses.append(self._step(samples, state.step))
            state.step += 1
            state.tokens += sum(len(sample.ids) for sample in samples)
            state.supervised_tokens += sum(weight == 1.0 for sample in samples for weight in sample.weights[1:])
            state.seconds = time.monotonic() - started
            self._tell(state)
            if self.stopping or time.monotonic() - saved > self.job.checkpoint_seconds:
                checkpoint.save(self.job.out, state, self.trained, self.optimisers)
                saved = time.monotonic()
            if self.stopping:
                raise KeyboardInterrupt
        else:
            self._measure_held_out(state)
        self.best.take(state)
        return self._finish(state)

    def _prepare(self) -> None:
        self.say(Progress("loading"))
        rows = [row.messages for row in read_rows(self.job.train)]
        self.base = self.job.base or self._make_base(rows)
        template, names = model.chat_template(self.base)
        tokenizer = model.tokenizer(self.base)
        renderer = Renderer(
            tokenizer, template, max_length=self.job.max_length, prompt_weight=self.job.prompt_weight, **names
        )
        rendered = list(renderer.samples(rows))
        self.samples = [sample for sample in rendered if sample.supervised]
        self.dropped = len(rendered) - len(self.samples)
        if not self.samples:
            raise BadData(f"no row of {self.job.train.name} has an answer within max_length", "Raise max_length")
        held_out = read_rows(self.job.held_out)[:_HELD_OUT] if self.job.held_out else []
        self.held_out = [sample for sample in renderer.samples([row.messages for row in held_out]) if sample.supervised]
        self._tell_cut(len(rows))
        self._load()

    def _load(self) -> None:
        """The model and its optimisers; the steps where time does not decide over them."""
        job = self.job
        epoch = batches(self.samples, job.batch_tokens, job.seed, 0, job.batch)
        self.steps = job.steps or max(1, round(job.epochs * len(epoch)))
        largest = max(sum(len(self.samples[index].ids) for index in batch) for batch in epoch)
        shape, size = Shape.read(self.base), memory.number_size(self.compute)
        self.checkpointing = memory.plan(shape, job, model.weights_size(self.base), largest, size)
        adapted = job.method in ADAPTERS
        self.model = model.load(
            self.base, self.device, self.compute, full=not adapted, checkpointing=self.checkpointing
        )
        self.trained = self.model.parameters
        if adapted:
            scale = lora.scale(job.method, job.rank, job.alpha)
            self.trained = lora.attach(self.model.linears, job.rank, scale, job.seed, self.device)
        self.optimisers = optimiser.build(self.trained, job.method, job.learning_rate, job.weight_decay, self.compute)
        self.best = Best(job.out, self.trained, job.patience)

    def _schedule(self) -> Iterator[list[int]]:
        return schedule(self.samples, self.job.batch_tokens, self.job.seed, self.job.batch)

    def _plan_steps(self, state: checkpoint.State) -> None:
        """Steps for the time that the job gives. A run that goes on keeps those that it began with."""
        if self.job.seconds and not state.steps:
            began = time.monotonic()
            order, lengths = self._usual()
            each = seconds_per_token(order, lengths, self._try, min(_PROBE, self.job.seconds / 20))
            left = self.job.seconds - (time.monotonic() - began)
            tokens = sum(lengths[index] for batch in order for index in batch) / len(order)
            state.steps = max(1, int(left / (each * tokens)))
        self.steps = state.steps or self.steps

    def _usual(self) -> tuple[list[list[int]], list[int]]:
        """Batches as they will come, and the tokens of each row."""
        return list(islice(self._schedule(), min(self.steps, _LOOK))), [len(sample.ids) for sample in self.samples]

    def _try(self, batch: Sequence[int]) -> None:
        """All the work of a step but the change that it makes."""
        self._loss([self.samples[index] for index in batch]).backward()  # type: ignore[no-untyped-call]
        for one in self.optimisers:
            one.zero_grad(set_to_none=True)

    def _whole_step(self, batch: Sequence[int]) -> None:
        self._step([self.samples[index] for index in batch], 0)

    def _probe(self) -> TrainPlan:
        order, lengths = self._usual()
        return probe(
            order,
            lengths,
            self._whole_step,
            steps=self.steps,
            seconds=self.job.probe,
            watch=self.watch,
            checkpointing=self.checkpointing,
            dtype=_spelt(self.compute),
        )

    def _stop_between_steps(self) -> None:
        """From here on an interrupt waits for the step to end, so that the checkpoint is of a whole step."""

        def stop(*_: object) -> None:
            self.stopping = True

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)

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

    def _measure_held_out(self, state: checkpoint.State) -> bool:
        """Measure where it is time to; whether training has gone on for long enough."""
        done = {point.step for point in state.held_out_losses}
        if not self.held_out or state.step not in points(self.steps, self.job.evaluations) - done:
            return False
        state.held_out_losses.append(HeldOutLoss(state.step, self._held_out_loss()))
        return self.best.judge(state)

    def _tell(self, state: checkpoint.State) -> None:
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
        self.say(Progress("saving", state.step, self.steps))
        adapted = self.job.method in ADAPTERS
        out = self.job.out / ("adapter" if adapted else "model")
        if adapted:
            job = self.job
            lora.save(self.trained, out, method=job.method, rank=job.rank, alpha=job.alpha, base=self.base.name)
        else:
            model.save(self.trained, self.base, out)
        checkpoint.drop(self.job.out)
        self.best.drop()
        return TrainResult(
            model=out,
            method=self.job.method,
            steps=state.step,
            tokens=state.tokens,
            supervised_tokens=state.supervised_tokens,
            seconds=state.seconds,
            losses=tuple(state.losses),
            held_out_losses=tuple(state.held_out_losses),
            rows=len(self.samples),
            rows_cut=self.cut,
            rows_dropped=self.dropped,
            dtype=_spelt(self.compute),
            threads=self.threads,
            trainable=sum(p.numel() for p in self.trained.values()),
            resumed=state.resumed,
            peak_rss=memory.peak_rss(),
            peak_private=self.watch.private,
            checkpointing=self.checkpointing,
            best_step=state.best_step,
        )


def _spelt(dtype: torch.dtype) -> str:
    return "f32" if dtype == torch.float32 else "bf16"
