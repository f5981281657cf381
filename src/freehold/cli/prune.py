"""Remove from the disk what no model, lease or recipe step uses."""

from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json
from freehold.cli._output import emit, line, size
from freehold.core.settings import load


def command(
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Downloads and trainings that could be gone on with, too.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Remove from the disk what no model, lease or recipe step uses."""
    from freehold.formats.locks import sweep
    from freehold.store import Store
    from freehold.store.check import prune

    settings = load({"home": home})
    with Store.open(settings.store) as store:
        report = prune(store, dry_run, unfinished)
    trainings = sweep(settings.resumable, dry_run=dry_run) if unfinished else 0
    if json:
        told = {"blobs": report.blobs, "temporary": report.temporary, "size": report.size, "trainings": trainings}
        emit({**told, "dry_run": dry_run})
        return
    verb = "would free" if dry_run else "freed"
    line(f"{verb} {size(report.size)}: {len(report.blobs)} blobs, {report.temporary} unfinished files")
    if trainings:
        line(f"{verb} {size(trainings)} of stopped trainings")
