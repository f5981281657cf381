"""The training loop. Everything it does follows from its job; it can be killed anywhere and goes on where it was."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice

import torch
from torch.nn import Parameter

from freehold.convert import adapter_to_gguf
from freehold.core.errors import WorkerFailed
from freehold.core.system import cores, on_linux
from freehold.tuning import backends, checkpoint, lora, memory, model, optimiser, unsloth
from freehold.tuning.asking import Asking
from freehold.tuning.batches import batches, schedule
from freehold.tuning.decoder import fused
from freehold.tuning.decoder.attention import brief
from freehold.tuning.decoder.common import Common
from freehold.tuning.decoder.model import Network
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.device import Device, find
from freehold.tuning.heap import Heap
from freehold.tuning.job import (
    ADAPTERS,
    LOG,
    Answered,
    Cut,
    HeldOutLoss,
    Progress,
    Report,
    TrainJob,
    TrainPlan,
    TrainResult,
)
from freehold.tuning.judge import Grader
from freehold.tuning.learning import Learner, computing
from freehold.tuning.material import Material
from freehold.tuning.memory import Watch
from freehold.tuning.objectives import objectives
from freehold.tuning.objectives.base import Example
from freehold.tuning.planning import LOOK, Planner
from freehold.tuning.policy import Drawing, Policy
from freehold.tuning.precision import choose, in_int8, spelt
from freehold.tuning.rewards import JUDGE, rewards
from freehold.tuning.sharing import Crew
from freehold.tuning.stopping import STEPS, Best, Ending, Rise, lost, points, told, worse
from freehold.tuning.unpack import file_of

_CLIP = 1.0


class Trainer:
    """One run of one job, in this process."""

    def __init__(self, job: TrainJob, say: Callable[[Report], None], place: Device | None = None) -> None:
        """`place` computes; None takes the best of this machine."""
        self.job = job
        self.say = say
        self.stopping = False
        self.borrows = job.backend == "unsloth"
        self.place = place or find()
        self.device = self.place.device
        self.threads = job.threads or cores()
        torch.set_num_threads(self.threads)
        torch.manual_seed(job.seed)
        # Unsloth's kernels add in any order; torch's beside them would only be slower.
        torch.use_deterministic_algorithms(not self.borrows, warn_only=not self.place.repeats)
        # It would fill every new tensor first; nothing here reads a tensor before writing it.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.keeping = memory.Keeping(job.checkpointing == "on", job.offload == "on")
        self.heap, self.common = Heap.of_this_process(), Common()
        self.aside = 0.0
        """Seconds, since it began or went on, that the model answered for people, which is no training."""

    def run(self) -> TrainResult | TrainPlan:
        """Train to the end, from the last checkpoint if there is one; or try it, where the job asks for a plan."""
        self.job.out.mkdir(parents=True, exist_ok=True)
        try:
            with Watch() as self.watch, ExitStack() as self.opened:
                self._prepare()
                return self._probe() if self.job.probe else self._train()
        except (MemoryError, RuntimeError) as error:
            if not memory.ran_out(error):
                raise
            movable = self.place.room().host > 0 and not self.keeping.offload
            raise memory.shortage(self.job, checkpointing=self.keeping.checkpointing, movable=movable) from error

    def _train(self) -> TrainResult:
        state = checkpoint.load(self.job.out, *self._kept(), job=checkpoint.identity(self.job))
        state.resumed += state.step > 0
        state.step_seconds = state.step_seconds or state.seconds
        state.dtype, state.compute = self._spelt(), spelt(self.compute)
        self._stop_between_steps()
        spent = self._plan_steps(state)
        rise, ending = Rise(state.losses), Ending(self.job, spent)
        cut: Cut = ""
        started, saved = time.monotonic() - state.seconds, time.monotonic()
        for batch in islice(self._schedule(), state.step, self.steps):
            cut = ending.due(state, self.aside)
            if cut or self._measure_held_out(state):
                break
            examples = [self.examples[index] for index in batch]
            began = time.monotonic()
            loss, norm = self._step(examples, state.step)
            state.step_seconds += time.monotonic() - began
            state.losses.append(loss)
            state.gradient_norms.append(norm)
            state.step += 1
            state.tokens += sum(example.tokens for example in examples)
            state.supervised_tokens += sum(sample.targets for example in examples for sample in example.samples)
            state.seconds = time.monotonic() - started - self.aside
            self._tell(state)
            rise.add(state.losses[-1])
            self._check(rise.lowest, rise.mean, state)
            if self.stopping or time.monotonic() - saved > self.job.checkpoint_seconds:
                checkpoint.save(self.job.out, state, *self._kept())
                saved = time.monotonic()
            if self.stopping:
                raise KeyboardInterrupt
        else:
            self._measure_held_out(state)
        # Whoever is killed before the model is in safety starts from here.
        checkpoint.save(self.job.out, state, *self._kept())
        if cut:
            self._end_early(state, cut)
        self.best.take(state)
        return self._finish(state, cut)

    def _kept(self) -> tuple[checkpoint.Trained, checkpoint.Optimisers, checkpoint.Known]:
        """What a checkpoint holds beside the state."""
        return self.trained, self.optimisers, self.policy.known

    def _check(self, lowest: float, now: float, state: checkpoint.State) -> None:
        """Raises WorkerFailed for a loss that has run away. A model that knows nothing yet gets over much."""
        if lost(now, lowest) and self.job.method != "scratch" and self.job.objective != "grpo":
            raise WorkerFailed(
                f"the loss has risen from {lowest:.2f} to {now:.2f} at step {state.step}: it has run away",
                f"Lower learning_rate, most likely too high at {self.job.learning_rate:g}",
            )

    def _prepare(self) -> None:
        self.say(Progress("loading"))
        backends.prepare(self.job)
        self.objective = objectives()[self.job.objective]
        self.material = Material(self.job, self.objective, self.opened, self.say)
        self.base, self.aim = self.material.base, self.material.aim
        self.examples, self.held_out = self.material.examples, self.material.held_out
        self.lengths = [example.tokens for example in self.examples]
        self._load()

    def _load(self) -> None:
        """The model and its optimisers; the steps where time does not decide over them."""
        job = self.job
        begun = checkpoint.begun(job.out, checkpoint.identity(job))
        self.compute = choose(begun.compute or job.dtype, self.place)
        epoch = batches(self.lengths, job.batch_tokens, job.seed, 0, job.batch)
        self.steps = job.steps or max(1, round(job.epochs * len(epoch)))
        largest = self.aim.largest(epoch, self.examples)
        shape, size = Shape.read(self.base), memory.number_size(self.compute)
        self.int8 = in_int8(job, self.base, shape.hidden, self.compute, self.place, begun.dtype)
        adapted = job.method in ADAPTERS
        compared = self.objective.compares and not adapted
        self.keeping = memory.plan(
            shape, job, model.weights_size(self.base), largest, size, self.place.room(), compared=compared,
            brief=brief(min(len(row.ids) for each in self.examples for row in each.samples), self.compute, self.device),
            rounded=self.int8 and job.base_dtype == "stored" and file_of(self.base) is None,
        )  # fmt: skip
        self._fuse(shape, epoch)
        self.model, self.trained = self._borrowed() if self.borrows else self._own(adapted=adapted)
        self.beside = self.aim.begin(self.examples, self.held_out, shape.hidden, self.device)
        self.trained = {**self.trained, **self.beside}
        self.optimisers = optimiser.build(self.trained, job.method, job.learning_rate, job.weight_decay, self.compute)
        self.best = Best(job.out, self.trained, job.patience)
        first = None
        if compared:
            first = model.load(self.base, self.device, self.compute, full=False, resident=self.place.resident)
        self.policy = Policy(self.model, self.device, job.beta, first)
        self.aim.equip(self.policy)
        if job.objective == "grpo":
            self.policy.drawing = self._drawing()
        self.learner = self._learner()
        self.asking = self._asking()

    def _fuse(self, shape: Shape, epoch: Sequence[Sequence[int]]) -> None:
        """Say what there is to do, of which a run that goes on thinks as it did before."""
        numbers = len(shape.layers) * sum(rows * columns for rows, columns in memory.linears(shape))
        tokens = sum(map(self.aim.computed, self.examples))
        fused.ask(numbers, math.inf if self.job.seconds else self.steps * tokens / len(epoch))

    def _own(self, *, adapted: bool) -> tuple[Network, dict[str, Parameter]]:
        """Freehold's decoder, and what is trained of it."""
        job = self.job
        made = model.load(
            self.base,
            self.device,
            self.compute,
            full=not adapted,
            checkpointing=self.keeping.checkpointing,
            offload=self.keeping.offload,
            int8=self.int8,
            base_dtype=job.base_dtype if adapted else "stored",
            resident=self.place.resident,
            common=self.common,
        )
        if not adapted:
            return made, made.parameters
        scale = lora.scale(job.method, job.rank, job.alpha)
        return made, lora.attach(made.linears, job.rank, scale, job.seed, self.device, dora=job.method == "dora")

    def _learner(self) -> Learner:
        """What finds gradients. A whole model has one that is too large for each process to have its own."""
        trained, crew = list(self.trained.values()), None
        if self.objective.apart and self.job.method in ADAPTERS and self.device.type == "cpu" and on_linux():
            compute, most = computing(self.objective, self.policy, trained), 1 + memory.beside(self.place.room())
            crew = Crew(self.threads, most, compute, trained, self.heap, self.watch.add, self.common)
            self.opened.enter_context(crew)
        return Learner(self.objective, self.aim, self.policy, trained, crew)

    def _borrowed(self) -> tuple[Network, dict[str, Parameter]]:
        """Unsloth's model, and what is trained of it."""
        saving = unsloth.saving(self.job, self.keeping)
        self.keeping = self.keeping._replace(offload=saving == "unsloth")
        longest = max(len(sample.ids) for sample in self.material.samples())
        return unsloth.load(self.job, self.base, self.compute, saving=saving, longest=longest)

    def _asking(self) -> Asking:
        """What shows people how far the model is. Unsloth's reads no text token by token."""
        asked = [] if self.borrows else self.material.asked
        ends = model.ends_if_any(self.base, self.material.encoder) if asked else set()
        return Asking(self.model, asked, ends, self._text, self.device)

    def _text(self, ids: list[int]) -> str:
        return self.material.encoder.decode(ids, skip_special_tokens=True)

    def _drawing(self) -> Drawing:
        job, encoder, grader = self.job, self.material.encoder, None
        if job.judge is not None and JUDGE in job.rewards:
            grader = self.opened.enter_context(Grader(job.judge, job.out / "judge", self.threads))
        return Drawing(
            reward=rewards(job.rewards, job.train.parent, grader, job.out / LOG),
            text=self._text,
            ends=frozenset(model.ends(self.base, encoder)),
            group=job.group,
            most=job.max_answer,
            temperature=job.temperature,
            seed=job.seed,
        )

    def _schedule(self) -> Iterator[list[int]]:
        return schedule(self.lengths, self.job.batch_tokens, self.job.seed, self.job.batch)

    def _plan_steps(self, state: checkpoint.State) -> float:
        """Steps for the time that the job gives, and the seconds that it took to plan them.

        A run that goes on keeps those that it began with.
        """
        began = time.monotonic()
        if self.job.seconds and not state.steps:
            state.steps = self._planner().fitting(self._try)
            self.aside = 0.0  # planning counts it
        self.steps = state.steps or self.steps
        return time.monotonic() - began

    def _probe(self) -> TrainPlan:
        return self._planner().outlook(
            self._whole_step, self._sizes, watch=self.watch, place=self.place, keeping=self.keeping, dtype=self._spelt()
        )

    def _planner(self) -> Planner:
        order = list(islice(self._schedule(), min(self.steps, LOOK)))
        held_out = [example.tokens for example in self.held_out]
        return Planner(self.job, order, self.steps, self.lengths, held_out, self._look, self._answers)

    def _sizes(self, batch: Sequence[int]) -> list[int]:
        return self.learner.sizes([self.examples[index] for index in batch])

    @torch.no_grad()
    def _look(self, batch: Sequence[int]) -> None:
        self.learner.value([self.held_out[index] for index in batch])

    def _try(self, batch: Sequence[int]) -> None:
        """All the work of a step but the change that it makes."""
        self.learner.learn([self.examples[index] for index in batch])
        for one in self.optimisers:
            one.zero_grad(set_to_none=True)

    def _whole_step(self, batch: Sequence[int]) -> None:
        self._step([self.examples[index] for index in batch], 0)

    def _stop_between_steps(self) -> None:
        """From here on an interrupt waits for the step to end, so that the checkpoint is of a whole step."""

        def stop(*_: object) -> None:
            self.stopping = True

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)

    def _step(self, examples: Sequence[Example], step: int) -> tuple[float, float]:
        """One change of the weights; the loss before it, and the gradient's norm."""
        scale = optimiser.rate(step, self.steps, self.job.warmup)
        self.policy.at(step)
        for one in self.optimisers:
            for group in one.param_groups:
                group["lr"] = self.job.learning_rate * scale
            one.zero_grad(set_to_none=True)
        value = self.learner.learn(examples)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), _CLIP)
        if not (torch.isfinite(norm) and math.isfinite(value)):
            raise self._no_number(step)
        for one in self.optimisers:
            one.step()
        self.heap.tidy()
        return value, norm.item()

    def _no_number(self, step: int) -> WorkerFailed:
        said = f"the loss is not a number at step {step}"
        if step == 0:
            return WorkerFailed(f"{said}, before anything was learned: the base gives it", "Use a base that is whole")
        return WorkerFailed(
            f"{said}: most likely learning_rate {self.job.learning_rate:g} is too high, or the base is not whole",
            "Lower learning_rate, or check the base; the last checkpoint is kept",
        )

    def _measure_held_out(self, state: checkpoint.State) -> bool:
        """Measure where it is time to; whether training has gone on for long enough."""
        if not self.held_out or state.step not in points(self.steps, self.job.evaluations):
            return False
        self._measure(state)
        # With patience the best weights are taken, whatever came after them; some steps may go too far and come back.
        if not self.job.patience and state.step >= STEPS:
            self._check(min(point.loss for point in state.held_out_losses), state.held_out_losses[-1].loss, state)
        return self.best.judge(state)

    def _measure(self, state: checkpoint.State) -> None:
        """The held-out loss of the weights as they are, unless it is known."""
        if state.step not in {point.step for point in state.held_out_losses}:
            loss = self.learner.mean(self.held_out, self.job.batch_tokens)
            if not math.isfinite(loss):
                raise self._no_number(state.step)
            state.held_out_losses.append(HeldOutLoss(state.step, loss))
            self.say(Progress("measuring", state.step, self.steps, held_out_loss=loss, samples=self._answers()))

    def _answers(self) -> tuple[Answered, ...]:
        """None where there is no room for them: training may have all that it needs."""
        began = time.monotonic()
        try:
            return self.asking.answers()
        except (MemoryError, RuntimeError) as error:
            if not memory.ran_out(error):
                raise
            return ()
        finally:
            self.aside += time.monotonic() - began

    def _end_early(self, state: checkpoint.State, cut: Cut) -> None:
        """Say so, and measure what there is. No checkpoint has that point, so that the run can go on as if uncut."""
        self.say(Progress("measuring", state.step, self.steps, note=told(cut, state.step, self.steps)))
        if self.held_out and self.job.evaluations:
            self._measure(state)
            self.best.last(state)

    def _spelt(self) -> str:
        """What products are made in, as a job says it."""
        return "int8" if self.int8 else spelt(self.compute)

    def _tell(self, state: checkpoint.State) -> None:
        speed = state.tokens / max(state.step_seconds, 1e-9)
        left = (self.steps - state.step) * state.step_seconds / state.step
        self.say(
            Progress(
                "training", state.step, self.steps, state.losses[-1], speed, left,
                gradient_norm=state.gradient_norms[-1], memory=self.place.held(), tokens=state.tokens,
            )
        )  # fmt: skip

    def _finish(self, state: checkpoint.State, cut: Cut) -> TrainResult:
        note = "" if self.job.patience else worse(state.held_out_losses)
        self.say(Progress("saving", state.step, self.steps, note=note))
        adapted = self.job.method in ADAPTERS
        out = self.job.out / ("adapter" if adapted else "model")
        if adapted:
            job, file = self.job, file_of(self.base)
            name = self.base.name if file is None else file.readlink().name
            halves = {name: value for name, value in self.trained.items() if name not in self.beside}
            lora.save(halves, out, method=job.method, rank=job.rank, alpha=job.alpha, base=name)
            if file is not None:
                adapter_to_gguf(out, file, job.out / "adapter.gguf")
        else:
            model.save(self.trained, self.base, out)
        return TrainResult(
            model=self.aim.saved(out),
            measured=self.aim.measured(self.policy, self.examples, self.held_out),
            method=self.job.method,
            steps=state.step,
            tokens=state.tokens,
            supervised_tokens=state.supervised_tokens,
            seconds=state.seconds,
            step_seconds=state.step_seconds,
            losses=tuple(state.losses),
            gradient_norms=tuple(state.gradient_norms),
            held_out_losses=tuple(state.held_out_losses),
            rows=len(self.examples),
            rows_cut=self.material.cut,
            rows_dropped=self.material.dropped,
            dtype=self._spelt(),
            threads=self.threads,
            trainable=sum(p.numel() for p in self.trained.values()),
            resumed=state.resumed,
            peak_rss=max(memory.peak_rss(), self.watch.resident),
            peak_private=self.watch.private,
            peak_device=self.place.peak(),
            checkpointing=self.keeping.checkpointing,
            offload=self.keeping.offload,
            best_step=state.best_step,
            cut=cut,
            planned=self.steps if cut else 0,
            library=unsloth.version() if self.borrows else "",
        )
