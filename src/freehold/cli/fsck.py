"""Check that every model in the store is whole, and mend what is not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import Home, Json, Quiet
from freehold.cli._output import emit, line, note, table
from freehold.core.errors import BadInput
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.store import Store
    from freehold.store.repair import Healer, Repaired


def command(
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte again, not only what changed.")] = False,
    mend: Annotated[
        bool, typer.Option("--repair", help="Mend from --from, other tools' stores and where models were pulled from.")
    ] = False,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="PATH", help="With --repair: a file, folder or bundle."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Check that every model in the store is whole. Exit code 1 if something is not, and could not be mended."""
    from freehold.store import Store
    from freehold.store.check import fsck

    if sources and not mend:
        raise BadInput("--from says where to mend from", "Add --repair")
    settings = load({"home": home})
    with Store.open(settings.store, quota=settings.quota) as store:
        findings = fsck(store, deep)
        repaired: list[Repaired] = []
        if findings and mend:
            repaired = _repaired(store, settings, sources or [], quiet=quiet)
            findings = fsck(store)
        models = len(store.catalog.bound()) if not findings else 0
    if json:
        emit({"clean": not findings, "findings": findings, "repaired": repaired})
    else:
        for each in repaired:
            line(f"mended {each.digest.short} of {each.model} from {each.origin}")
        if findings:
            table(["KIND", "SUBJECT", "DETAIL"], [[found.kind, found.subject, found.detail] for found in findings])
    if findings:
        note("mend with 'freehold fsck --repair', or remove with 'freehold rm NAME' and pull again", quiet=quiet)
        raise typer.Exit(1)
    note(f"clean: {models} model{'s' * (models != 1)}", quiet=quiet or json)


def _repaired(store: "Store", settings: "Settings", sources: list[Path], *, quiet: bool) -> "list[Repaired]":
    from freehold.store.healers import Bundles, Given, Origins, OtherTools
    from freehold.store.outbound import Outbound
    from freehold.store.repair import repair

    with Outbound(settings) as outbound:
        origins = Origins(store, outbound, lambda reason: note(reason, quiet=quiet))
        healers: list[Healer] = [Given(sources), Bundles(sources, store.folder), OtherTools(), origins]
        return repair(store, healers)
