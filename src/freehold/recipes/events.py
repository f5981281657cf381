"""What the runner says while it works."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from freehold.tuning.job import Answered, Progress


class RunBegins(msgspec.Struct, frozen=True, tag="run"):
    """Something is to be done: the run has a name and a folder from here on."""

    run: str
    folder: Path


class StepBegins(msgspec.Struct, frozen=True, tag="begins"):
    """A task starts; `why` it was not taken from memory."""

    task: str
    number: int
    total: int
    why: str
    place: Path | None = None
    """Where it works, if it can be gone on with."""


class StepMoves(msgspec.Struct, frozen=True, tag="moves"):
    """Progress within a task, `fraction` in [0, 1]."""

    task: str
    fraction: float
    text: str = ""
    report: Progress | None = None
    """What the trainer said, while tuning."""


class StepEnds(msgspec.Struct, frozen=True, tag="ends"):
    """A task is done; `before` says that its result was remembered."""

    task: str
    number: int
    total: int
    seconds: float
    before: bool = False


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Something that the user should know."""

    task: str
    text: str


RunEvent = RunBegins | StepBegins | StepMoves | StepEnds | Note
OnEvent = Callable[[RunEvent], None]


def on_a_line(text: str, most: int) -> str:
    """A text without its line breaks, of which no more than `most` characters are left."""
    joined = " ".join(text.split())
    return joined if len(joined) <= most else joined[:most].rsplit(" ", 1)[0] + " …"


def said(sample: Answered, most: int) -> str:
    """An answer for people: on a line, and with a sign where the model had not ended it."""
    answer = on_a_line(sample.answer, most)
    if not answer:
        return "(nothing)"
    return answer if sample.whole or answer.endswith(" …") else f"{answer} …"
