"""Make a model from another with a Modelfile: system message, parameters, template, adapter."""

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Model, Quiet, opened
from freehold.cli._output import emit, line, note, size
from freehold.core.name import Name


def command(
    name: Model,
    file: Annotated[Path, typer.Option("-f", "--file", metavar="FILE", help="The Modelfile.")] = Path("Modelfile"),
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Make a model from another with a Modelfile, in Ollama's syntax. A name that exists points to the new model."""
    from freehold import convert
    from freehold.formats import modelfile as modelfiles
    from freehold.store import creating

    target = Name.parse(name)
    read = modelfiles.read(file)
    with opened(home) as (_, store):
        base = creating.base_of(read, file.parent)
        creating.check(read, file.parent)
        digest = None
        if base.name is not None:
            store.resolve(base.name)
        if not dry_run:
            manifest = creating.create(store, target, read, file.parent, convert)
            digest = manifest.digest
    if json:
        emit({"name": target, "digest": digest, "from": read.base, "ignored": read.ignored, "dry_run": dry_run})
        return
    if digest is None:
        line(f"would make {target} from {read.base}")
    else:
        line(f"{target}: {size(manifest.size)}, {digest.short}")
    left_out = ", ".join(read.ignored)
    note(f"left out, since they are about another machine: {left_out}", quiet=quiet or not left_out)
