"""Check that every model in the store is whole."""

from typing import Annotated

import typer

from freehold.cli._options import Home, Json, Quiet
from freehold.cli._output import emit, note, table
from freehold.core.settings import load


def command(
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte again, not only what changed.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Check that every model in the store is whole. Exit code 1 if something is not."""
    from freehold.store import Store
    from freehold.store.check import fsck

    with Store.open(load({"home": home}).store) as store:
        findings = fsck(store, deep)
        models = len(store.list()) if not findings else 0
    if json:
        emit({"clean": not findings, "findings": findings})
    elif findings:
        table(["KIND", "SUBJECT", "DETAIL"], [[found.kind, found.subject, found.detail] for found in findings])
    if findings:
        note("remove a damaged model with 'freehold rm NAME', then pull or make it again", quiet=quiet)
        raise typer.Exit(1)
    note(f"clean: {models} model{'s' * (models != 1)}", quiet=quiet or json)
