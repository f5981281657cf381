"""Show the main job: tune, measure, quantise and serve a help desk of your own."""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import Home, Json, Quiet
from freehold.cli._output import emit, line, note, pairs
from freehold.core.errors import GateFailed
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.cli._demo_server import Answer
    from freehold.core.settings import Settings
    from freehold.recipes.outcome import Outcome

QUESTIONS = ("Hello, can you mend my flat tyre?", "Which days are you open?")
_FILES = ("helpdesk.csv", "recipe.toml")


def command(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Show the main job: tune, measure, quantise and serve a help desk of your own, from a CSV to a server.

    Takes some minutes and no network. The files are put into FREEHOLD_HOME/demo, to be changed and made again.
    """
    from freehold.cli._demo_server import ask, served
    from freehold.tuning.launch import require_extra

    settings = load({"home": home})
    require_extra()
    outcome = _made(_unpack(settings.home / "demo"), settings, quiet=quiet or json)
    note("starting the server and asking it two questions", quiet=quiet or json)
    with served(settings, keep=keep) as state:
        answers = [ask(state, outcome.name, question) for question in QUESTIONS]
    if json:
        emit({"outcome": outcome, "answers": answers, "url": state.url if keep else None})
    else:
        _show(outcome, answers, settings, url=state.url if keep else "")


def _unpack(folder: Path) -> Path:
    """The demo's recipe in `folder`; files that are there already are the user's and stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if not (folder / name).exists():
            (folder / name).write_bytes(resources.files("freehold.assets").joinpath("demo", name).read_bytes())
    return folder / "recipe.toml"


def _made(recipe: Path, settings: "Settings", *, quiet: bool) -> "Outcome":
    from freehold.cli._lasting import Lasting
    from freehold.cli._makeview import View, show_outcome
    from freehold.recipes.runner import make

    note(f"the recipe is {recipe}, its data helpdesk.csv beside it", quiet=quiet)
    with Lasting() as lasting, View(quiet=quiet, lasting=lasting) as view:
        outcome = make(recipe, settings, on_event=view)
    if not outcome.passed:
        if not quiet:
            show_outcome(outcome)
        raise GateFailed(f"the gate kept {outcome.name}: {'; '.join(outcome.failures())}", f"Change {recipe}")
    return outcome


def _show(outcome: "Outcome", answers: "list[Answer]", settings: "Settings", *, url: str) -> None:
    """The last screen."""
    from freehold.cli._makeview import show_outcome

    show_outcome(outcome)
    line()
    line("Asked over HTTP")
    for answer in answers:
        line(f"  > {answer.question}")
        line(f"  {answer.answer}   ({answer.seconds:.1f} s)")
    line()
    line("What happened: a small open model learned the questions and answers of a bicycle workshop from a CSV file,")
    line("was compared with its base on questions that it had not seen, and was made smaller. It runs on this machine")
    line("alone, and nothing left it.")
    line()
    line("Next")
    pairs(
        [
            (f'freehold run {outcome.name} "How much is a new chain?"', "ask it"),
            ("freehold serve", "an OpenAI-compatible server"),
            (f"freehold show {outcome.name}", "where it came from, and the evidence"),
            ("freehold make --new YOUR.csv", "the same with your own questions and answers"),
            (str(settings.home / "demo"), "the recipe and the data of this demo"),
        ]
    )
    if url:
        line(f"  The server still runs at {url}; stop it with: freehold stop --server")
