"""Choose whose signatures count: add, list and remove trusted keys."""

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli._options import Home, Json
from freehold.cli._output import emit, line, table
from freehold.core.settings import load

group = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Choose whose signatures count: add, list and remove trusted keys.",
)
Space = Annotated[
    str, typer.Option("--for", metavar="ORG", help="Models org/…; _ for names without one, _all for every name.")
]


@group.command("add")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A public key (FILE.pub of freehold keygen).")],
    space: Space = "_all",
    json: Json = False,
    home: Home = None,
) -> None:
    """Trust a public key."""
    from freehold.proofs.sign import keys, trust

    key = keys.public(file)
    trust.add(load({"home": home}), key, space)
    if json:
        emit({"for": trust.namespace(space), "key": key.hint})
    else:
        line(f"{key.hint[:16]} is trusted for {trust.namespace(space)}")


@group.command("list")
def list_(json: Json = False, home: Home = None) -> None:
    """List the trusted keys."""
    from freehold.proofs.sign import trust

    found = trust.trusted(load({"home": home}))
    if json:
        emit([{"for": one.namespace, "key": one.key.hint, "path": one.key.label} for one in found])
    else:
        table(["FOR", "KEY"], [[one.namespace, one.key.hint[:16]] for one in found])


@group.command("rm")
def rm(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's first digits, as 'trust list' shows them.")],
    space: Annotated[str, typer.Option("--for", metavar="ORG", help="Only for these models.")] = "",
    json: Json = False,
    home: Home = None,
) -> None:
    """Trust a key no more."""
    from freehold.proofs.sign import trust

    removed = trust.remove(load({"home": home}), key, space)
    if json:
        emit([{"for": one.namespace, "key": one.key.hint} for one in removed])
        return
    for one in removed:
        line(f"{one.key.hint[:16]} is no longer trusted for {one.namespace}")
