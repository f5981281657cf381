"""Give a model a second name, or write its files to a folder."""

from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Model, opened
from freehold.cli._output import emit, line
from freehold.core.errors import Conflict
from freehold.core.name import Name
from freehold.core.paths import expanded


def command(
    old: Model,
    new: Annotated[str, typer.Argument(metavar="NEW", help="A name (org/model:tag), or ./folder.")],
    dry_run: DryRun = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Give a model a second name, or write its files to a folder as any other program expects them."""
    with opened(home) as (_, store):
        source = Name.parse(old)
        manifest = store.get(source)
        if new.startswith((".", "/", "~")):
            target = expanded(new)
            if target.exists() and (not target.is_dir() or any(target.iterdir())):
                raise Conflict(f"{target} exists", "Choose a folder that is empty or new")
            if not dry_run:
                from freehold.store.importing import materialise

                materialise(store, manifest, target)
        elif not dry_run:
            from freehold.store import creating

            creating.copy(store, source, Name.parse(new))
        else:
            Name.parse(new)
    if json:
        emit({"from": source, "to": new, "digest": manifest.digest, "dry_run": dry_run})
    else:
        line(f"{'would copy' if dry_run else 'copied'} {source} to {new}")
