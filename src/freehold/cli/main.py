"""The entry point: find the verb, run it, turn whatever goes wrong into one line and an exit code."""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from freehold import __version__
from freehold.cli._border import Border, settle_process
from freehold.core.errors import BadInput

EPILOG = """Environment: FREEHOLD_HOME, where everything is kept (~/.freehold); FREEHOLD_OFFLINE=1, no packet leaves \
the machine; FREEHOLD_HOST and FREEHOLD_PORT, where the server listens; FREEHOLD_DEBUG=1, tracebacks; NO_COLOR."""

_FOLDER = Path(__file__).parent


@cache
def verbs() -> tuple[str, ...]:
    """The verbs: modules of this package, without importing them."""
    names = (path.stem for path in _FOLDER.glob("*.py"))
    return tuple(sorted(name for name in names if not name.startswith("_") and name != "main"))


def summary(verb: str) -> str:
    """What a verb does: the first line of its file."""
    text = (_FOLDER / f"{verb}.py").read_text("utf-8")
    return text.partition("\n")[0].strip('" ')


class Verbs(TyperGroup):
    """The group of verbs; a verb's module is imported when the verb is typed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All verbs."""
        return list(verbs())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command, or None."""
        if cmd_name not in verbs():
            return None
        module = import_module(f"{__package__}.{cmd_name}")
        group = getattr(module, "group", None)
        if isinstance(group, typer.Typer):
            command = get_command(group)
            command.name = cmd_name
            return command
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name)(module.command)
        return get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The verb typed. Raises BadInput naming the nearest ones."""
        if args[0] not in verbs() and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = " or ".join(repr(f"freehold {verb}") for verb in get_close_matches(args[0], verbs(), 2, 0.5))
            raise BadInput(
                f"no such command: {args[0]!r}", f"Did you mean {near}?" if near else "See 'freehold --help'"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of verbs in the help, which imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, summary(verb)) for verb in verbs()])


app = typer.Typer(cls=Verbs, add_completion=False, rich_markup_mode=None, epilog=EPILOG)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and exit.")
) -> None:
    """AI that you own outright: run, serve, tune and prove open models on your own machine."""
    if version:
        typer.echo(f"freehold {__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(args: Sequence[str]) -> int:
    """Run one command line. The exit code; errors have been said on stderr."""
    with Border() as border:
        command = get_command(app)
        with command.make_context("freehold", list(args)) as context:
            command.invoke(context)
        sys.stdout.flush()
    return border.exit_code


def main() -> None:
    """The command `freehold`."""
    settle_process()
    sys.exit(run(sys.argv[1:]))
