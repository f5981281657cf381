"""Show the line to change in a client or app so that it uses this server."""

import re
from difflib import get_close_matches
from typing import Annotated

import typer

from freehold.cli._clients import CLIENTS, Client
from freehold.cli._options import Home, Json, Quiet, full_name
from freehold.cli._output import emit, line, note
from freehold.core.errors import BadInput
from freehold.core.settings import load

_PLAIN = re.compile(r"[A-Za-z0-9._:/+@-]+")
"""Names that need no quotes in any of the lines; those of other tools may hold anything."""


def command(
    app: Annotated[str, typer.Argument(metavar="[APP]", help="A client or app; all where none is named.")] = "",
    model: Annotated[str, typer.Option(help="The model that the line names.")] = "starter",
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Show the line to change in a client or app so that it uses this server, running or not yet."""
    from freehold.serving.state import ServerState, running

    chosen = _chosen(app)
    name = full_name(model)
    if not _PLAIN.fullmatch(name):
        raise BadInput(f"{name[:120]!r} cannot stand in such a line", "Give it a plain name: freehold adopt")
    settings = load({"home": home})
    state = running(settings)
    url = (state or ServerState(0, "", settings.host, settings.port)).url
    shown = [(client, client.text.format(url=url, model=name)) for client in chosen]
    if json:
        clients = [
            {"name": client.name, "title": client.title, "form": client.form, "text": text} for client, text in shown
        ]
        emit({"url": url, "running": state is not None, "clients": clients})
        return
    for number, (client, text) in enumerate(shown):
        line(("\n" if number else "") + (f"{client.title} ({client.name})" if not app else client.title))
        line("\n".join(f"    {row}" for row in text.split("\n")))
    note("\nno server runs: start it with 'freehold serve'", quiet=quiet or state is not None)


def _chosen(app: str) -> tuple[Client, ...]:
    if not app:
        return CLIENTS
    found = tuple(client for client in CLIENTS if client.name == app.lower())
    if not found:
        names = [client.name for client in CLIENTS]
        near = get_close_matches(app.lower(), names, 1, 0.5)
        raise BadInput(
            f"no such client: {app[:40]!r}", f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names)}"
        )
    return found
