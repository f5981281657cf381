"""Make a model from a recipe: tune, measure, quantise, release."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._lasting import Detach, Lasting
from freehold.cli._options import DryRun, Home, Json, Quiet
from freehold.cli._output import emit, line, note, pairs
from freehold.core.errors import BadInput, Conflict, GateFailed
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.recipes.schema import RecipeFile


def command(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="A recipe, as in recipe.toml.")] = None,
    new: Annotated[
        Path | None, typer.Option("--new", metavar="DATA", help="Write a recipe for this data file.")
    ] = None,
    detach: Detach = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Make a model from a recipe: tune it, measure it, quantise it, and release it when it passes its gate.

    Steps that are done are not done again; an interrupted run goes on where it was. It survives the terminal's end;
    'freehold runs' shows it.
    """
    if (recipe is None) == (new is None):
        raise BadInput("give either a recipe or --new DATA", "As in 'freehold make --new tickets.csv'")
    if new is not None:
        _write(new, dry_run=dry_run, json=json)
        return
    settings = load({"home": home})
    if recipe is not None and dry_run:
        _plan(recipe, settings, json=json, quiet=quiet)
    elif recipe is not None:
        from freehold.recipes.schema import read

        with Lasting(detach=detach) as lasting:
            make_shown(read(recipe), settings, lasting, json=json, quiet=quiet)


def make_shown(file: "RecipeFile", settings: "Settings", lasting: Lasting, *, json: bool, quiet: bool) -> None:
    """Make a recipe and show how it goes and what came out. Raises GateFailed too."""
    from freehold.cli._makeview import View, show_next, show_outcome
    from freehold.recipes.runner import make_of

    with View(quiet=quiet or json, lasting=lasting) as view:
        outcome = make_of(file, settings, on_event=view, left=lambda: lasting.left)
    if json:
        emit(outcome)
    else:
        show_outcome(outcome)
    if not outcome.passed:
        raise GateFailed(
            f"the gate kept {outcome.name}: {'; '.join(outcome.failures())}",
            "Tune longer, add data or change [gate]; what is done is kept",
        )
    if not json and not quiet:
        show_next(outcome)


def _plan(recipe: Path, settings: "Settings", *, json: bool, quiet: bool) -> None:
    from freehold.cli._makeview import show_plan
    from freehold.recipes.plan import plan_of

    found = plan_of(recipe, settings)
    if json:
        emit(found)
    else:
        show_plan(found, quiet=quiet)


def _write(data: Path, *, dry_run: bool, json: bool) -> None:
    """Write a recipe into the working folder, and say what was seen and assumed."""
    from freehold.recipes.draft import draft

    target = Path(f"{data.stem}.toml")
    if target.exists():
        raise Conflict(f"{target} exists", f"Run 'freehold make {shlex.quote(str(target))}', or move it away first")
    made = draft(data, Path.cwd())
    if not dry_run:
        content = made.text.encode()  # before there is a file: a name that is not UTF-8 cannot stand in a recipe
        with target.open("xb") as file:
            file.write(content)
    if json:
        emit(
            {
                "recipe": str(target),
                "name": made.name,
                **dict(made.findings),
                "assumed": made.notes,
                "wrong": made.wrong,
            }
        )
        return
    line(f"{'would write' if dry_run else 'wrote'} {target}, which makes the model {made.name!r}")
    pairs(list(made.findings))
    for text in made.notes:
        note(f"  assumed: {text}")
    for text in made.wrong:
        note(f"  found: {text}")
    line()
    line(f"Next: freehold make {shlex.quote(str(target))}")
