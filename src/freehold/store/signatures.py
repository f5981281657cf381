"""Signatures of models, beside the store's blobs: `signatures/<manifest>/<digest of the signature>.sig`.

A signature cannot be part of the manifest that it signs, and any number may come later.
"""

from collections.abc import Sequence
from pathlib import Path

from freehold.core.digest import Digest
from freehold.core.errors import TooLarge
from freehold.formats.atomic import disk_errors, replacing
from freehold.formats.reading import regular_file, shown

MAX_SIGNATURE = 16 << 20
MAX_SIGNATURES = 64


def folder(store_folder: Path, manifest: Digest) -> Path:
    """Where a model's signatures are."""
    return store_folder / "signatures" / manifest.hex


def read(store_folder: Path, manifest: Digest) -> list[bytes]:
    """The signatures of a model, in a constant order."""
    place = folder(store_folder, manifest)
    files = sorted(place.glob("*.sig"))[:MAX_SIGNATURES] if place.is_dir() else []
    return [read_file(file) for file in files]


def read_file(path: Path) -> bytes:
    """A signature file. Raises NotFound, BadInput and TooLarge."""
    with regular_file(path) as (file, size):
        if size > MAX_SIGNATURE:
            raise TooLarge(f"{shown(path, 400)}: {size} bytes are too many for a signature", "Name a signature file")
        return file.read(MAX_SIGNATURE)


def add(store_folder: Path, manifest: Digest, signatures: Sequence[bytes]) -> None:
    """Keep signatures of a model. Raises DiskFull."""
    place = folder(store_folder, manifest)
    with disk_errors(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for signature in signatures:
        with replacing(place / f"{Digest.of_bytes(signature).hex}.sig") as temporary:
            temporary.write_bytes(signature)
