"""Run notebooks written for Unsloth with Freehold's own trainer."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli._options import Home, Json, Quiet, opened, require_writable
from freehold.cli._output import emit, line, note
from freehold.core.errors import BadInput, Interrupted, WorkerFailed
from freehold.core.name import Name

if TYPE_CHECKING:
    from freehold.notebooks.job import Ran

group = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Run notebooks written for Unsloth with Freehold's own trainer.",
)


@group.callback()
def root() -> None:
    """Run notebooks written for Unsloth with Freehold's own trainer."""


@group.command("run")
def run(
    notebook: Annotated[Path, typer.Argument(metavar="FILE.ipynb", help="It runs code: know its author.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="The local model in place of a hub's.")] = "",
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="The local data in place of a hub's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A value in place of the notebook's.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="PATTERN", help="Do not run cells that match.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.ipynb", help="Where it is written with its outputs.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Run a notebook's cells in order, without Jupyter, without a network, and write it with what they gave.

    What it imports as unsloth, trl and datasets is Freehold's; cells that install packages are skipped. --set replaces
    variables and arguments: --set max_steps=5.
    """
    values = dict(_value(text) for text in set_ or ())
    model = str(values.pop("model", model))
    given = values.pop("data", data)
    ran = _run(notebook, model, None if given is None else Path(str(given)), values, skip or [], out, home)
    for name in ran.unused:
        note(f"--set {name} changed nothing: the notebook asks for no {name}", quiet=quiet)
    if ran.error:
        raise WorkerFailed(f"cell {ran.cell} of {notebook.name}: {ran.error}", f"What was done is in {ran.out}")
    if json:
        emit(ran)
    else:
        line(f"ran {ran.cells - ran.skipped} of {ran.cells} cells in {ran.seconds:.0f} s; wrote {ran.out}")


def _run(
    notebook: Path,
    model: str,
    data: Path | None,
    values: dict[str, Any],
    skip: list[str],
    out: Path | None,
    home: Path | None,
) -> "Ran":
    from freehold.notebooks.job import NotebookJob
    from freehold.notebooks.run import run

    if data is not None and not data.is_file():
        raise BadInput(f"no such data file: {data}", "Check the path")
    target = out or notebook.with_name(f"{notebook.stem}.executed.ipynb")
    if target.resolve() == notebook.resolve():
        raise BadInput("--out is the notebook itself", "Give another name")
    require_writable(target)
    with opened(home) as (settings, store):
        if model and not Path(model).is_dir():
            store.get(Name.parse(model))
        with store.room() as room:
            job = NotebookJob(
                notebook=notebook.absolute(),
                out=target.absolute(),
                home=settings.home,
                work=room / "notebook",
                model=str(Path(model).absolute()) if Path(model).is_dir() and model else model,
                data="" if data is None else str(data.absolute()),
                values=values,
                skip=tuple(skip),
            )
            try:
                return run(job)
            except KeyboardInterrupt as error:
                raise Interrupted("the notebook was interrupted", "Run it again from its start") from error


def _value(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that Python does not read is text. Raises BadInput."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise BadInput(f"--set {text!r} sets nothing", "Write NAME=VALUE, as in --set max_steps=5")
    try:
        found = ast.literal_eval(value.strip())
        # What Python would not read again, as inf, is no value to hand on.
        return name.strip(), found if ast.literal_eval(repr(found)) == found else value.strip()
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return name.strip(), value.strip()
