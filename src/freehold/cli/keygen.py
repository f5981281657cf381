"""Make a key pair that signs models."""

import os
from pathlib import Path
from typing import Annotated

import typer

from freehold.cli._options import Json, Quiet
from freehold.cli._output import emit, line, note


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; the public one is FILE.pub.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a key pair that signs models. FREEHOLD_KEY_PASSPHRASE, if set, encrypts the private key."""
    from freehold.proofs.sign import keys

    passphrase = os.environ.get("FREEHOLD_KEY_PASSPHRASE", "")
    public = keys.make(file, passphrase)
    if json:
        emit({"private": file, "public": public.label, "hint": public.hint, "encrypted": bool(passphrase)})
        return
    line(f"{file} (private), {public.label} (public), {public.hint[:16]}")
    note("Whoever has the private key can sign as you. Give the public one to those who check.", quiet=quiet)
