"""How many steps fit the time that a job gives, and what a job would take: from trying some of its steps."""

import math
import time
from collections.abc import Callable, Sequence

from freehold.tuning.batches import batches
from freehold.tuning.device import Device
from freehold.tuning.job import TrainJob, TrainPlan
from freehold.tuning.memory import Keeping, Watch
from freehold.tuning.probing import Sizes, Step, probe, seconds_per_token, steps_within, various

LOOK = 20_000
"""Steps whose tokens stand for those of all."""
_PROBE = 20.0
"""Seconds of trying, at most, before steps are planned for a time."""


class Planner:
    """One job's. `order` is its first steps, of `steps` in all, as indices into `lengths`, the tokens of its rows.

    `look` measures the loss of some `held_out` rows, which are lengths too; `answer` has the model answer for people.
    """

    def __init__(
        self,
        job: TrainJob,
        order: Sequence[Sequence[int]],
        steps: int,
        lengths: Sequence[int],
        held_out: Sequence[int],
        look: Step,
        answer: Callable[[], object],
    ) -> None:
        self.job, self.order, self.steps, self.lengths = job, order, steps, lengths
        self.held_out, self.look, self.answer = held_out, look, answer
        self.trying = min(_PROBE, job.seconds / 20)

    def fitting(self, step: Step) -> int:
        """Steps for the time that the job gives, of which trying takes some. `step` is one that changes nothing."""
        began = time.monotonic()
        beside = self._measuring() + self._answering()
        each = seconds_per_token(self.order, self.lengths, step, self.trying)
        left = self.job.seconds - beside - (time.monotonic() - began)
        mean = sum(self.lengths[index] for batch in self.order for index in batch) / len(self.order)
        return steps_within(left, each, mean)

    def outlook(
        self, step: Step, sizes: Sizes, *, watch: Watch, place: Device, keeping: Keeping, dtype: str
    ) -> TrainPlan:
        """What the job would take. `step` is a whole one, `sizes` those that its steps are of."""
        return probe(
            various(self.order, sizes),
            self.lengths,
            step,
            steps=self.steps,
            within=max(0.0, self.job.seconds - self.trying),
            beside=self._measuring(),
            seconds=self.job.probe,
            watch=watch,
            place=place,
            keeping=keeping,
            dtype=dtype,
        )

    def _times(self) -> int:
        return min(self.job.evaluations, self.steps + 1) if self.held_out else 0

    def _measuring(self) -> float:
        """Seconds that looks at held-out rows will take, from a short one."""
        if not self._times():
            return 0.0
        order = batches(self.held_out, self.job.batch_tokens, 0, 0)
        usual = order[len(order) // 2]  # twice, since memory is new to the first
        each = seconds_per_token([usual, usual], self.held_out, self.look, math.inf)
        return self._times() * sum(self.held_out) * each

    def _answering(self) -> float:
        """Seconds that the answers for people will take."""
        began = time.monotonic()
        self.answer()
        return (time.monotonic() - began) * self._times()
