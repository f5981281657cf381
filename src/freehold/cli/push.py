"""Push a model to a Hub repository or an OCI registry."""

from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Model, Quiet, opened
from freehold.cli._output import Bar, emit, line, size
from freehold.core.errors import Forbidden
from freehold.core.name import Name


def command(
    name: Model,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="hf.co/org/repo, or oci://host/name:tag.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new Hub repository private.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Push a model to a Hub repository, with card and proofs, or to an OCI registry, from where Ollama can pull it."""
    source = Name.parse(name)
    with opened(home) as (settings, store):
        from freehold.proofs import card
        from freehold.store.pushing import hub, oci

        manifest = store.get(source)
        where = oci.Target.parse(target) if target.startswith("oci://") else hub.repo_of(target)
        if settings.offline:
            raise Forbidden(f"nothing is pushed to {target}: Freehold is offline", "Unset FREEHOLD_OFFLINE")
        done: dict[str, object] = {}
        if dry_run:
            files = len(oci.layers(store, manifest)) if isinstance(where, oci.Target) else len(manifest.parts) + 1
            done = {"files": files}
        elif isinstance(where, oci.Target):
            bar = Bar("pushing", quiet=quiet or json)
            done = {"pushed": oci.push(store, source, where, settings, bar)}
        else:
            pushed = hub.push(store, source, where, settings, card=card.of(store, source), private=private)
            done = {"pushed": pushed.commit, "url": pushed.url}
    if json:
        emit({"name": source, "target": target, "size": manifest.size, "dry_run": dry_run, **done})
    else:
        line(f"{'would push' if dry_run else 'pushed'} {source} to {target}: {size(manifest.size)}")
