"""Sign a model, file, folder or bundle."""

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, opened, require_writable
from freehold.cli._output import emit, line
from freehold.cli._signing import is_path, private_key
from freehold.core.name import Name
from freehold.core.paths import expanded


def command(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A model, or ./file, ./folder, x.fhb.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key (freehold keygen).")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the signature here as well.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Sign a model, file, folder or bundle. A model's signature is kept in the store, a file's beside it (.sig)."""
    from freehold.formats.atomic import replacing
    from freehold.proofs.sign import models

    signer = private_key(key)
    where: Path | None
    require_writable(out)
    if is_path(what):
        path = expanded(what)
        where = out or models.signature_path(path)
        if dry_run:
            models.files_at(path, where)
        else:
            models.sign_path(path, signer, out)
    else:
        name, where = Name.parse(what), out
        with opened(home) as (_, store):
            store.resolve(name)
            signature = b"" if dry_run else models.sign_model(store, name, signer)
        if out is not None and not dry_run:
            with replacing(out) as temporary:
                temporary.write_bytes(signature)
    if json:
        emit({"signed": what, "key": signer.public.hint, "signature": where, "dry_run": dry_run})
        return
    line(
        f"{'would sign' if dry_run else 'signed'} {what} with {signer.public.hint[:16]}{f': {where}' if where else ''}"
    )
