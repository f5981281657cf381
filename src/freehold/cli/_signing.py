"""What sign and verify share: whether a model or a path is meant, and keys from files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freehold.proofs.sign.keys import PrivateKey, PublicKey


def is_path(text: str) -> bool:
    """Whether `text` means a file or folder: it begins as a path, ends as a model's file, or is there."""
    if text.startswith((".", "/", "~")) or text.endswith((".fhb", ".gguf", ".safetensors")):
        return True
    return "/" not in text and ":" not in text and Path(text).is_file()


def private_key(path: Path) -> "PrivateKey":
    """The private key in a file, opened with FREEHOLD_KEY_PASSPHRASE. Raises NotFound and BadInput."""
    from freehold.proofs.sign import keys

    return keys.private(path, os.environ.get("FREEHOLD_KEY_PASSPHRASE", ""))


def public_keys(paths: Sequence[Path]) -> "list[PublicKey]":
    """The public keys in files. Raises NotFound and BadInput."""
    from freehold.proofs.sign import keys

    return [keys.public(path) for path in paths]
