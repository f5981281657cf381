"""Show what each model takes on the disk, and what else the store holds."""

from freehold.cli._options import Home, Json, opened
from freehold.cli._output import emit, line, size, table


def command(json: Json = False, home: Home = None) -> None:
    """Show what each model takes on the disk: bytes of its own, which removing it frees, and bytes that it shares."""
    from freehold.formats.locks import size_of
    from freehold.store.usage import usage

    with opened(home) as (settings, store):
        found = usage(store)
        trainings = size_of(settings.resumable)
    if json:
        told = {field: getattr(found, field) for field in found.__struct_fields__}
        emit({**told, "trainings": trainings, "quota": settings.quota})
        return
    models = sorted(found.models, key=lambda each: -each.own)
    table(["NAME", "OWN", "SHARED"], [[each.name, size(each.own), size(each.shared)] for each in models])
    for what, amount in (
        ("recipe steps and conversions", found.steps),
        ("unused, freed by 'freehold prune'", found.unused),
        ("unfinished files", found.temporary),
        ("in files that another tool has too", found.linked),
    ):
        if amount:
            line(f"{what}: {size(amount)}")
    if trainings:
        line(f"beside the store, trainings to go on with: {size(trainings)} ('freehold prune --unfinished' frees them)")
    quota = f" of {size(settings.quota)} allowed" if settings.quota else ""
    line(f"in all: {size(found.total)}{quota}")
