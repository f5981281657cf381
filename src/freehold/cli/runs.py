"""Watch, compare, stop and resume runs of 'make' and 'tune'."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._lasting import Detach, Lasting
from freehold.cli._options import Home, Json, Quiet, require_writable
from freehold.cli._output import emit, line, note
from freehold.core.errors import BadInput, Conflict
from freehold.core.settings import Settings, load

if TYPE_CHECKING:
    from freehold.recipes.records import Record

group = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Watch, compare, stop and resume runs of 'make' and 'tune'. Alone, it lists them.",
)
RunName = Annotated[str, typer.Argument(metavar="RUN", help="As 'freehold runs' shows it; or a model: its last run.")]


@group.callback(invoke_without_command=True)
def list_(context: typer.Context, json: Json = False, quiet: Quiet = False, home: Home = None) -> None:
    """Watch, compare, stop and resume runs of 'make' and 'tune'. Alone, it lists them."""
    if context.invoked_subcommand is not None:
        return
    from freehold.cli._runsview import show_list, summary
    from freehold.recipes.records import records

    settings = load({"home": home})
    known = records(settings)
    if json:
        emit([summary(settings, record) for record in known])
        return
    show_list(settings, known)
    note("no run yet; 'freehold make' and 'freehold tune' begin one", quiet=quiet or bool(known))


@group.command("show")
def show(run: RunName, json: Json = False, home: Home = None) -> None:
    """Show how far a run is: losses, gradient norm, speed, memory, samples, settings; of 'make' scores too."""
    from freehold.cli._runsview import detail, show_run

    settings, record = _found(run, home)
    if json:
        emit(detail(settings, record))
    else:
        show_run(settings, record)


@group.command("log")
def log(
    run: RunName,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run ends.")] = False,
    home: Home = None,
) -> None:
    """Print what a run said."""
    from freehold.cli._runsview import show_log

    settings, record = _found(run, home)
    show_log(settings, record, follow=follow)


@group.command("compare")
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the losses of all.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Put runs side by side: settings that differ, losses, scores, time, memory."""
    from freehold.cli._runsview import comparison, show_comparison

    require_writable(plot)
    settings = load({"home": home})
    found = list({record.run: record for record in (_find(run, settings) for run in runs)}.values())
    if len(found) < 2:
        raise BadInput("one run compares with nothing", "Give two: freehold runs compare RUN RUN")
    if plot is not None:
        _draw(settings, found, plot)
        note(f"drew {plot}", quiet=quiet or json)
    sides = comparison(settings, found)
    if json:
        emit(sides)
    else:
        show_comparison(sides)


@group.command("stop")
def stop(
    run: RunName,
    keep: Annotated[bool, typer.Option("--keep", help="Take what it has learned so far as its result.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Stop a run as Ctrl-C does: it writes a checkpoint and can be gone on with.

    With --keep it ends its step, and goes on with what comes after tuning: what it has learned so far gets the name. Of
    a run that is paused that is the last checkpoint.
    """
    from freehold.recipes import records

    settings, record = _found(run, home)
    if keep:
        _cut(settings, record, json=json, quiet=quiet)
        return
    if record.now == "running":
        note(f"stopping {record.run}: it ends its step and writes a checkpoint", quiet=quiet or json)
    stopped = records.stop(settings, record)
    if json:
        emit({"run": stopped.run, "state": stopped.now})
        return
    how = f"go on with 'freehold runs resume {stopped.run}'" if stopped.now == "paused" else "it had ended by itself"
    line(f"{stopped.run} is {stopped.now}: {how}")


@group.command("resume")
def resume(run: RunName, detach: Detach = False, json: Json = False, quiet: Quiet = False, home: Home = None) -> None:
    """Go on with a run that was stopped, killed or failed, with the recipe as it was when it began."""
    settings, record = _found(run, home)
    _go_on(settings, record, detach=detach, json=json, quiet=quiet)


def _go_on(settings: Settings, record: "Record", *, detach: bool, json: bool, quiet: bool) -> None:
    from freehold.cli import make, tune
    from freehold.recipes.records import recipe_of

    if record.now in ("running", "done"):
        raise Conflict(f"{record.run} is {record.now}", "Only a run that is paused or failed can be gone on with")
    file = recipe_of(settings, record)
    if file.path.exists() and record.kind == "make" and file.path.read_bytes() != file.source:
        note(f"{file.path} was changed since; this run goes on with what it said then", quiet=quiet or json)
    require_writable(record.report)
    with Lasting(detach=detach) as lasting:
        if record.kind == "make":
            make.make_shown(file, settings, lasting, json=json, quiet=quiet)
        else:
            tune.tune_shown(file, settings, lasting, json=json, quiet=quiet, report=record.report)


def _cut(settings: Settings, record: "Record", *, json: bool, quiet: bool) -> None:
    """Let a run end with what it has learned: ask it where it runs, else go on with it to that end."""
    from freehold.recipes import cutting

    runs = record.now == "running"
    cutting.ask(settings, record)
    if not runs:
        _go_on(settings, record, detach=False, json=json, quiet=quiet)
        return
    note(f"asked {record.run} to end its step and to keep what it has learned", quiet=quiet or json)
    record = cutting.wait(settings, record)
    if json:
        emit({"run": record.run, "state": record.now})
    elif record.now == "running" and record.task == "tune":
        line(f"{record.run} is still in its step; 'freehold runs show {record.run}' tells when it has ended")
    elif record.now == "running":
        line(f"{record.run} goes on with what it has learned, in the step {record.task!r}")
    else:
        line(f"{record.run} is {record.now}: {', '.join(record.result) or record.error}")


def _found(run: str, home: Path | None) -> "tuple[Settings, Record]":
    settings = load({"home": home})
    return settings, _find(run, settings)


def _find(run: str, settings: Settings) -> "Record":
    from freehold.recipes.records import find

    return find(settings, run)


def _draw(settings: Settings, found: "list[Record]", path: Path) -> None:
    from importlib.util import find_spec

    from freehold.core.errors import MissingExtra
    from freehold.formats.atomic import replacing
    from freehold.recipes.records import losses, place_of, shown_task

    if find_spec("matplotlib") is None:
        raise MissingExtra(
            "--plot needs matplotlib, which this installation lacks", "Run: pip install 'freehold[tune]'"
        )
    from freehold.tuning.plot import compare

    with replacing(path) as temporary:
        compare(
            {each.run: losses(place_of(settings, each.run), shown_task(settings, each)) for each in found}, temporary
        )
