"""Remove from the disk what no model, lease or recipe step uses."""

from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json
from freehold.cli._output import emit, line, size
from freehold.core.settings import load


def command(
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Downloads that a pull could go on with, too.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Remove from the disk what no model, lease or recipe step uses."""
    from freehold.store import Store
    from freehold.store.check import prune

    with Store.open(load({"home": home}).store) as store:
        report = prune(store, dry_run, unfinished)
    if json:
        emit({"blobs": report.blobs, "temporary": report.temporary, "size": report.size, "dry_run": dry_run})
        return
    verb = "would free" if dry_run else "freed"
    line(f"{verb} {size(report.size)}: {len(report.blobs)} blobs, {report.temporary} unfinished files")
