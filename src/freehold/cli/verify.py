"""Check who signed a model, file, folder or bundle, and that it is as it was signed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import Home, Json, opened
from freehold.cli._output import emit, line
from freehold.cli._signing import is_path, public_keys
from freehold.core.name import Name
from freehold.core.paths import expanded
from freehold.core.settings import Settings, load

if TYPE_CHECKING:
    from freehold.proofs.sign.keys import PublicKey
    from freehold.proofs.sign.models import Verified


def command(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A model, or ./file, ./folder, x.fhb.")],
    key: Annotated[list[Path] | None, typer.Option("--key", metavar="FILE", help="Accept this public key.")] = None,
    signature: Annotated[Path | None, typer.Option(metavar="FILE", help="Where a file's signature is.")] = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Check who signed a model, file, folder or bundle, and that every byte is as it was signed.

    Without --key, the keys count that are trusted for the name (freehold trust), for a file all trusted keys.
    """
    verified = _path(what, key or [], signature, home) if is_path(what) else _model(what, key or [], home)
    if json:
        emit({"verified": what, "key": verified.key.hint, "label": verified.key.label, "subject": verified.subject})
    else:
        line(f"{what} is as {verified.key.hint[:16]} signed it ({verified.key.label})")


def _path(what: str, files: list[Path], signature: Path | None, home: Path | None) -> "Verified":
    from freehold.proofs.sign import models

    keys = public_keys(files) if files else _all(load({"home": home}))
    return models.verify_path(expanded(what), keys, signature)


def _all(settings: Settings) -> "list[PublicKey]":
    from freehold.proofs.sign import trust

    return list({one.key.hint: one.key for one in trust.trusted(settings)}.values())


def _model(what: str, files: list[Path], home: Path | None) -> "Verified":
    from freehold.proofs.sign import models, trust

    name = Name.parse(what)
    with opened(home) as (settings, store):
        keys = public_keys(files) if files else trust.for_name(settings, name)
        return models.verify_model(store, name, keys)
