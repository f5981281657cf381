"""Fuzz target: bytes that pretend to be a bundle are refused in one line, or are one. Run by test_bundle_fuzz."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from freehold.core.errors import FreeholdError
    from freehold.formats.bundle.layout import header
    from freehold.formats.bundle.reading import Bundle
    from freehold.proofs.sign import envelope

PATH = Path(tempfile.mkdtemp(prefix="freehold-fuzz-")) / "x.fhb"


def target(data: bytes) -> None:
    """One input: as it is when it begins as a tar does, otherwise as the index of a bundle."""
    whole = data if data[257:262] == b"ustar" else header("freehold-bundle.json", len(data)) + data + bytes(4096)
    PATH.write_bytes(whole)
    try:
        with Bundle.open(PATH) as bundle:
            bundle.verify()
    except FreeholdError as error:
        if "\n" in error.line():
            raise AssertionError("more than one line") from error
    try:
        envelope.verify(data, [])
    except FreeholdError:
        return
    raise AssertionError("nobody's key verified it")


atheris.Setup(sys.argv, target)
atheris.Fuzz()
