"""What 'make' and 'demo' show: progress while a recipe runs, and the last screen."""

import json
import shlex
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from freehold.cli._output import line, note, pairs, printable, size, table
from freehold.recipes.events import Note, RunBegins, RunEvent, StepBegins, StepEnds, StepMoves

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from freehold.cli._lasting import Lasting
    from freehold.recipes.outcome import Outcome
    from freehold.recipes.plan import Plan

_MEANING = {
    "token_f1": "words shared with the right answer, from 0 to 1",
    "recall_at_1": "of texts the share whose nearest one is the one that belongs to it",
    "mrr": "the mean of 1 / the place of the right text",
    "spearman": "how far cosines and scores agree in their order, from -1 to 1",
}
_TITLES = {
    "data": "read and split the data",
    "base": "fetch the base model",
    "tune": "tune",
    "merge": "merge the adapter into the base",
    "convert": "convert to GGUF:",
    "quantize": "quantise to",
    "evaluate": "ask the held-out questions:",
    "compare": "compare with what was trained:",
    "gate": "judge",
    "release": "release",
}


def title(task: str) -> str:
    """A task's name in plain words."""
    kind, _, about = task.partition(" ")
    return f"{_TITLES.get(kind, kind)} {about}".strip()


class View:
    """Shows a run's events on stderr: a bar in a terminal, plain lines otherwise, nothing when quiet."""

    def __init__(self, *, quiet: bool, lasting: "Lasting | None" = None) -> None:
        self._quiet = quiet
        self._lasting = lasting
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._tenth = -1

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet and (self._lasting is None or self._lasting.shown):
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: RunEvent) -> None:
        """Show one event."""
        if isinstance(event, RunBegins) and self._lasting is not None:
            self._lasting.begins(event)
        if self._lasting is not None and self._lasting.left:
            self._go_quiet()
        elif isinstance(event, StepBegins):
            self._begins(event)
        elif isinstance(event, StepMoves):
            self._moves(event)
        elif isinstance(event, StepEnds):
            self._ends(event)
        elif isinstance(event, Note):
            self._say(f"        {event.text}")

    def _go_quiet(self) -> None:
        """Nobody looks any more; the run's own log has what would be shown."""
        self._quiet = True
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _begins(self, event: StepBegins) -> None:
        self._tenth = -1
        if self._bar is None:
            self._say(f"[{event.number}/{event.total}] {title(event.task)} ({event.why})")
        else:
            self._task = self._bar.add_task(f"[{event.number}/{event.total}] {title(event.task)}", total=1.0, text="")

    def _moves(self, event: StepMoves) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=event.fraction, text=printable(event.text))
        elif event.text and int(event.fraction * 10) != self._tenth:
            self._tenth = int(event.fraction * 10)
            self._say(f"        {event.fraction:4.0%}  {event.text}")

    def _ends(self, event: StepEnds) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        how = "done before" if event.before else f"done in {duration(event.seconds)}"
        self._say(f"[{event.number}/{event.total}] {title(event.task)}: {how}")

    def _say(self, text: str) -> None:
        if self._bar is None:
            note(text, quiet=self._quiet)
        else:
            self._bar.console.print(printable(text), markup=False, highlight=False)


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    what = TextColumn("{task.description}", markup=False)  # a name or a row of data may hold brackets
    columns = (SpinnerColumn(), what, BarColumn(), TextColumn("{task.fields[text]}", markup=False))
    return Progress(*columns, console=Console(stderr=True), transient=True)


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 2 min 5 s."""
    if seconds < 59.95:  # more is written as 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def show_plan(plan: "Plan", *, quiet: bool = False) -> None:
    """Each task, whether it will run, and why."""
    states = {"done": "done", "run": "will run", "waits": "will run"}
    rows = []
    for entry in plan.entries:
        unknown = entry.state == "waits"
        rows.append((entry.task, "may run" if unknown else states[entry.state], entry.why, entry.key[7:19]))
    table(("step", "", "why", "key"), rows)
    note("'may run': it runs unless what comes before it makes the same as an earlier run did", quiet=quiet)


def show_outcome(outcome: "Outcome") -> None:
    """The last screen: what came out, how good it is, where it is."""
    line()
    if outcome.passed:
        line(f"{outcome.name} is ready: tuned, measured, quantised and released in {duration(outcome.seconds)}.")
    else:
        line(f"{outcome.name} was not released: the gate was not passed. The name is as it was before.")
    line()
    show_table(outcome)
    line()
    line("Gate")
    for condition in outcome.conditions:
        line(f"  {condition.line()}")
    line()
    show_places(outcome)


def show_table(outcome: "Outcome") -> None:
    """Base, tuned and quantised beside each other."""
    from freehold.proofs.metrics import LABELS

    figures = list(outcome.measured[0].figures)
    rows = [
        (m.model, *(figure(name, m.figures[name]) for name in figures), size(m.size), f"{m.tokens_per_second:.0f}")
        for m in outcome.measured
    ]
    table(("model", *(LABELS[name] for name in figures), "size", "tokens/s"), rows)
    what = "pairs of texts" if outcome.measured[0].vectors else "questions"
    line(f"Measured on {outcome.measured[0].rows} held-out {what} that were not learned from.")
    for name, text in _MEANING.items():
        if name in figures:
            label = LABELS[name]
            line(f"{label[0].upper()}{label[1:]}: {text}.")


def figure(name: str, value: float) -> str:
    """As people read it."""
    return f"{value:.1%}" if name == "exact_match" else f"{value:.3f}"


def show_places(outcome: "Outcome") -> None:
    """Names and files."""
    pairs(
        [
            ("names", ", ".join(outcome.names)),
            ("manifest", str(next(iter(outcome.names.values()), ""))),
            ("data card", str(outcome.folder / "data-card.md")),
            ("loss curve", str(outcome.folder / "loss.png")),
            ("every answer", str(outcome.folder / f"answers-{outcome.released}.json")),
            ("journal", str(outcome.folder / "journal.jsonl")),
        ]
    )


def show_next(outcome: "Outcome") -> None:
    """What to type now."""
    line()
    line("Next")
    if outcome.measured and outcome.measured[0].vectors:
        show_embeddings(outcome.name)
        return
    question = " ".join(printable(outcome.question).split())
    question = question if len(question) <= 70 else question[:70].rsplit(" ", 1)[0] + " …"
    line(f"  freehold run {outcome.name} {shlex.quote(question)}")  # data must not run as a command
    line("  freehold serve")


def show_embeddings(name: str) -> None:
    """How the server is asked for the vector of a text."""
    from freehold.core.settings import PORT

    body = shlex.quote(json.dumps({"model": name, "input": "Where is my order?"}))
    line("  freehold serve")
    line(f"  curl http://127.0.0.1:{PORT}/v1/embeddings --json {body}")
