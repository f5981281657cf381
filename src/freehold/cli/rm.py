"""Remove models, and from the disk what no other model uses."""

from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Quiet, opened
from freehold.cli._output import emit, line, note, size
from freehold.core.name import Name


def command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of models.")],
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Remove models, and from the disk what no other model uses. Nothing is removed if one name is wrong."""
    from freehold.serving.starter import STARTER
    from freehold.store.check import prune

    with opened(home) as (_, store):
        wanted = dict.fromkeys(Name.parse(text) for text in names)
        for name in wanted:
            store.resolve(name)
        freed = 0
        if not dry_run:
            for name in wanted:
                store.remove(name)
            freed = prune(store).size
    if json:
        emit({"removed": [str(name) for name in wanted], "freed": freed, "dry_run": dry_run})
        return
    for name in wanted:
        line(f"would remove {name}" if dry_run else f"removed {name}")
    note(f"freed {size(freed)}", quiet=quiet or dry_run)
    note("the starter model ships with Freehold: it comes back when next needed", quiet=quiet or STARTER not in wanted)
