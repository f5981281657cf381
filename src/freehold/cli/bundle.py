"""Carry models to machines without a network: export, import and verify bundles."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Quiet, opened
from freehold.cli._output import Bar, emit, line, note, size
from freehold.cli._sizes import parse_size
from freehold.core.errors import BadInput
from freehold.core.name import Name
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.formats.bundle.reading import Bundle

group = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Carry models to machines without a network: export, import and verify bundles.",
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="OUT.fhb; of one in parts, that name or any part.")]


@group.command("export")
def export_(
    names: Annotated[list[str], typer.Argument(metavar="NAME... OUT", help="Models, then the file to write.")],
    split: Annotated[str, typer.Option(metavar="SIZE", help="Largest part, as in 4GB: OUT.001, OUT.002 …")] = "",
    with_wheels: Annotated[bool, typer.Option(help="Add what installs Freehold itself (pip fetches it).")] = False,
    wheels: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Add the wheels in this folder.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Write models, with recipes, proofs and signatures, into one file. A stopped export goes on where it was."""
    if len(names) < 2:
        raise BadInput("there is no file to write", "Give models and a file: freehold bundle export NAME OUT.fhb")
    *models, out = names
    limit = parse_size(split) if split else 0
    with opened(home) as (settings, store):
        from freehold.cli._wheels import collected
        from freehold.formats.bundle.writing import part_paths
        from freehold.store import bundles

        for model in models:
            store.resolve(Name.parse(model))
        with collected(wheels, fetch=with_wheels and not dry_run, offline=settings.offline) as found:
            packing = bundles.pack(store, [Name.parse(model) for model in models], found)
            paths = part_paths(Path(out), packing.size, limit)
            if not dry_run:
                bar = Bar("exporting", quiet=quiet or json)
                paths = bundles.export(store, packing, Path(out), split=limit, on_progress=bar)
    if json:
        emit({"files": paths, "size": packing.size, "models": packing.index.models, "dry_run": dry_run})
        return
    for path in paths:
        line(f"{'would write' if dry_run else 'wrote'} {path}")
    note(f"{size(packing.size)} in all", quiet=quiet)


@group.command("import")
def import_(file: File, dry_run: DryRun = False, json: Json = False, quiet: Quiet = False, home: Home = None) -> None:
    """Take the models of a bundle into the store, after every byte of it was checked."""
    from freehold.formats.bundle.reading import Bundle
    from freehold.store import Store, bundles

    settings = load({"home": home})
    with Bundle.open(file) as bundle:
        bar = Bar("checking", quiet=quiet or json)
        bundle.verify(bar)
        with Store.open(settings.store, quota=settings.quota) as store:
            done = bundles.bring(store, bundle, dry_run=dry_run)
    if json:
        models = [{"name": name, "digest": digest} for name, digest in done.models]
        emit({"models": models, "added": done.added, "moved": done.moved, "wheels": done.wheels, "dry_run": dry_run})
        return
    for name, digest in done.models:
        moved = ", in place of another model" if name in done.moved else ""
        line(f"{'would import' if dry_run else 'imported'} {name}: {digest.short}{moved}")
    note(f"{size(done.added)} new in the store", quiet=quiet)
    hint = f"{len(done.wheels)} wheels stay in the bundle: tar -xf {shlex.quote(str(file))} wheels"
    note(hint, quiet=quiet or not done.wheels)


@group.command("verify")
def verify(file: File, json: Json = False, quiet: Quiet = False) -> None:
    """Check every byte of a bundle. Needs no store."""
    from freehold.formats.bundle.reading import Bundle

    with Bundle.open(file) as bundle:
        bundle.verify(Bar("checking", quiet=quiet or json))
        _say(bundle, json)


def _say(bundle: "Bundle", json: bool) -> None:
    models = [{"name": model.name, "digest": model.manifest} for model in bundle.index.models]
    if json:
        shown = {"path": bundle.path, "size": bundle.size, "models": models, "files": len(bundle.index.items)}
        emit({**shown, "wheels": bundle.index.wheels, "whole": True})
        return
    for model in models:
        line(f"{model['name']}  {model['digest']}")
    line(f"{bundle.path} is whole: {len(bundle.index.items)} files, {size(bundle.size)}")
