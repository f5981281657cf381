"""A recipe's process: `python -m freehold.recipes.child`, which makes what the order on its stdin says.

What happens is told on stdout, a line of JSON each. When stdin closes it stops, as at a Ctrl-C: the same order given
again goes on from there.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from freehold.core.errors import FreeholdError
from freehold.core.settings import Settings
from freehold.recipes.events import Note, RunBegins, StepBegins, StepEnds, StepMoves
from freehold.tuning.job import TrainError, decode

if TYPE_CHECKING:
    from freehold.recipes.outcome import Outcome
    from freehold.recipes.tools import Tools

_NICE = 5
"""How far it steps back behind who chats meanwhile (nice(2))."""


class Order(msgspec.Struct, frozen=True):
    """What is to be made. With `check` nothing is: the recipe and its data are read."""

    recipe: Path
    settings: Settings
    check: bool = False


class Score(msgspec.Struct, frozen=True):
    """How well a model answered the held-out rows that it was asked."""

    model: str
    """base, tuned, or a quantisation."""
    token_f1: float
    exact_match: float
    rows: int


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    """The recipe can be made. Rows on both sides."""

    train: int
    held_out: int


class Made(msgspec.Struct, frozen=True, tag="made"):
    """It is made."""

    name: str
    """Empty where the gate kept it."""
    folder: Path
    """What is for people: the loss of each step in loss.csv."""
    tokens: int
    """That were read in training."""
    scores: tuple[Score, ...]
    """The base's first, the released model's last."""


Refused = TrainError
"""A FreeholdError, by the name of its class."""
Report = RunBegins | StepBegins | StepMoves | StepEnds | Note | Checked | Made | Refused


def read(line: bytes) -> Report:
    """A line of its stdout. Raises msgspec.DecodeError for one that was cut."""
    return decode(line, Report)  # type: ignore[arg-type]


def main(tools: "Tools | None" = None) -> int:
    """Make it; the exit code says only whether it went well, the reports say why not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the server may have had it ignored
    os.nice(_NICE)
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(report: Report) -> None:
        reports.write(msgspec.json.encode(report, enc_hook=str) + b"\n")

    try:
        # Unbuffered: a thread that waits in a buffered stdin would keep the interpreter from ending.
        orders = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
        order = decode(orders.readline(), Order)
        threading.Thread(target=_heed, args=(orders,), daemon=True).start()
        say(_checked(order, say, tools) if order.check else _made(order, say, tools))
    except FreeholdError as error:
        say(Refused(type(error).__name__, error.message, error.remedy))
        return error.exit_code
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0


def _heed(orders: BinaryIO) -> None:
    """Interrupt this process when whoever ordered is gone, or wants no more."""
    while orders.read(1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _checked(order: Order, say: Callable[[Report], None], tools: "Tools | None") -> Checked:
    from freehold.recipes import schema
    from freehold.recipes.runner import running

    with running(schema.read(order.recipe), order.settings, tools, say) as run:
        run.go("data")
        facts = run.results["data"].facts
    return Checked(facts["train"], facts["held_out"])


def _made(order: Order, say: Callable[[Report], None], tools: "Tools | None") -> Made:
    from freehold.recipes.runner import make

    outcome = make(order.recipe, order.settings, on_event=say, tools=tools)
    name = next(iter(outcome.names), "")
    return Made(name, outcome.folder, outcome.training["tokens"], _scores(outcome))


def _scores(outcome: "Outcome") -> tuple[Score, ...]:
    """Of the base, and of what was released, each as often as it is one of them."""
    # No order from the server asks for vectors.
    found = [
        Score(each.model, each.token_f1, each.exact_match, each.rows)
        for each in outcome.measured
        if each.token_f1 is not None and each.exact_match is not None
    ]
    return tuple(each for each in found if each.model in ("base", outcome.released))


if __name__ == "__main__":
    sys.exit(main())
