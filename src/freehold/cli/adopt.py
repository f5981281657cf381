"""Take models of other tools into the store, without a second copy where the disk allows it."""

from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Quiet, opened
from freehold.cli._output import Bar, emit, line, note, size
from freehold.core.errors import BadInput, FreeholdError
from freehold.core.name import Name

if TYPE_CHECKING:
    from freehold.store import Store
    from freehold.store.adopting import Adopted
    from freehold.store.neighbours import Found

_SAID = {"link": "shares its file", "copy": "copied", "present": "was here already"}


def command(
    name: Annotated[
        str, typer.Argument(metavar="[TOOL::NAME]", help="A model as 'freehold list --all' shows it.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every model of the other tools.")] = False,
    source: Annotated[
        str, typer.Option("--from", metavar="TOOL", help="With --all: of this tool; else NAME may leave TOOL:: out.")
    ] = "",
    target: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Its name here (else as its tool calls it).")
    ] = "",
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Take models of Ollama, LM Studio, Hugging Face or llama.cpp into the store.

    A file on the same disk becomes a hard link, and its right to be written is taken from it; else it is copied.
    Exit code 1 if one of several could not be taken.
    """
    if bool(name) == everything or (everything and target):
        raise BadInput("say what to adopt", "Use 'freehold adopt TOOL::NAME [--as NAME]' or 'freehold adopt --all'")
    chosen = _chosen(name, source)
    done: list[Adopted] = []
    refused: list[tuple[str, str]] = []
    with opened(home) as (_, store):
        bar = Bar("reading", quiet=quiet or json)
        store.blobs.on_progress = lambda got, total: bar(got, total) if total >= 4 << 20 else None
        for found in chosen:
            try:
                done.append(_adopt(store, found, target, dry_run))
            except FreeholdError as error:
                if not everything:
                    raise
                refused.append((found.label, error.line()))
    _say(done, refused, dry_run, json, quiet)
    if refused:
        raise typer.Exit(1)


def _chosen(name: str, source: str) -> "list[Found]":
    from freehold.store import neighbours

    if name:
        return [neighbours.lookup(name if neighbours.is_foreign(name) or not source else f"{source}::{name}")]
    return neighbours.everything(tool=source)


def _adopt(store: "Store", found: "Found", target: str, dry_run: bool) -> "Adopted":
    from freehold.store.adopting import adopt

    return adopt(store, found, Name.parse(target) if target else None, dry_run=dry_run)


def _say(done: "list[Adopted]", refused: list[tuple[str, str]], dry_run: bool, json: bool, quiet: bool) -> None:
    if json:
        emit({"adopted": done, "refused": [{"source": s, "problem": p} for s, p in refused], "dry_run": dry_run})
        return
    for each in done:
        verb = "would adopt" if dry_run else "adopted"
        line(f"{verb} {each.source} as {each.name}: {size(each.size)}, {_SAID[each.how]}")
    for label, problem in refused:
        note(f"{label}: {problem}", quiet=quiet)
