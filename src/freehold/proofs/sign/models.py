"""Signing and verifying models of the store, folders and files."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Forbidden, NotFound
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats.atomic import replacing
from freehold.formats.bundle.parts import Parts
from freehold.formats.reading import bad_file, regular_file, shown
from freehold.proofs.sign import envelope, statement, trust
from freehold.proofs.sign.keys import PrivateKey, PublicKey
from freehold.proofs.sign.statement import Statement
from freehold.store import Store, signatures

ALONE = "."
"""What the format calls a file that is signed by itself."""
_MAX_PATHS = 100_000


class Verified(NamedTuple):
    """Who signed it."""

    subject: str
    key: PublicKey


def files_of(manifest: Manifest) -> dict[str, Digest]:
    """A model's files as it would lie in a folder. Raises BadInput when two have one name."""
    files = {part.filename: part.digest for part in manifest.parts}
    if len(files) != len(manifest.parts):
        raise BadInput("two parts of the model have one file name", "Import the model again")
    return files


def sign_model(store: Store, name: Name, key: PrivateKey) -> bytes:
    """Sign the model that `name` points to; the signature is kept beside it. Its bytes. Raises Damaged."""
    digest = store.resolve(name)
    manifest = store.manifest(digest)
    for part in manifest.parts:
        store.verify(part.digest)
    signature = signature_of(name, manifest, key)
    signatures.add(store.folder, digest, [signature])
    return signature


def signature_of(name: Name, manifest: Manifest, key: PrivateKey) -> bytes:
    """The signature of a model, from what its manifest says of its files."""
    return envelope.sign(statement.of(name.model, files_of(manifest)), key)


def verify_model(store: Store, name: Name, keys: Sequence[PublicKey], *, deep: bool = True) -> Verified:
    """Who signed the model. With `deep`, every byte of it is read.

    Raises Forbidden when it is not signed, by none of `keys`, or not as it was signed, and Damaged.
    """
    digest = store.resolve(name)
    manifest = store.manifest(digest)
    found = signatures.read(store.folder, digest)
    verified = _by_any(found, keys, files_of(manifest), f"model {name}")
    for part in manifest.parts if deep else ():
        store.verify(part.digest)
    return verified


def _by_any(found: Sequence[bytes], keys: Sequence[PublicKey], files: Mapping[str, Digest], label: str) -> Verified:
    if not found:
        raise Forbidden(f"{label} is not signed", "Sign it: freehold sign NAME --key FILE")
    refusals = []
    for signature in found:
        try:
            return _check(signature, keys, files, f"the signature of {label}")
        except (Forbidden, BadInput) as error:
            refusals.append(error)
    raise refusals[0]


def _check(signature: bytes, keys: Sequence[PublicKey], files: Mapping[str, Digest], label: str) -> Verified:
    return _same(*envelope.verify(signature, keys, label), files, label)


def _same(signed: Statement, key: PublicKey, files: Mapping[str, Digest], label: str) -> Verified:
    wrong = statement.differences(signed, files)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise Forbidden(f"{label} is of something else: {shown(wrong[0])}{more}", "Get model and signature again")
    return Verified(signed.subject[0].name, key)


def require(settings: Settings, store: Store, name: Name) -> None:
    """The policy `require_signature`: raises Forbidden unless a key trusted for `name` signed it. Off, does nothing."""
    if not settings.require_signature:
        return
    keys = trust.for_name(settings, name)
    if not keys:
        where = name.org or trust.PLAIN
        raise Forbidden(
            f"{name} needs a signature here, and no key is trusted for it", f"freehold trust add FILE.pub --for {where}"
        )
    verify_model(store, name, keys, deep=False)


def sign_path(path: Path, key: PrivateKey, out: Path | None = None) -> Path:
    """Sign a file, bundle (also in parts) or folder. Where the signature is. Raises NotFound and BadInput."""
    target = out or signature_path(path)
    signature = envelope.sign(statement.of(path.absolute().name, files_at(path, target)), key)
    with replacing(target) as temporary:
        temporary.write_bytes(signature)
    return target


def verify_path(path: Path, keys: Sequence[PublicKey], signature: Path | None = None) -> Verified:
    """Who signed a file, bundle or folder. Raises NotFound, BadInput, and Forbidden when it is not as it was signed."""
    given = signature or signature_path(path)
    if not given.exists():
        raise Forbidden(f"{shown(path, 400)} is not signed: no file {shown(given, 400)}", "Name it: --signature FILE")
    label = shown(given, 400)
    signed, key = envelope.verify(signatures.read_file(given), keys, label)
    return _same(signed, key, files_at(path, given, signed.predicate.serialization.ignore_paths), label)


def signature_path(path: Path) -> Path:
    """Where the signature of a path is unless one says otherwise: `model.sig` in a folder, else beside the file."""
    return path / "model.sig" if path.is_dir() else path.with_name(path.name + ".sig")


def files_at(path: Path, but: Path, ignored: Sequence[str] = ()) -> dict[str, Digest]:
    """The files there and their digests, without the signature `but` and what the format or its signer ignores.

    Raises NotFound and BadInput.
    """
    if not path.is_dir():
        return {ALONE: _digest(path)}
    root = path.resolve()
    # However both are spelt, the signature is recognised.
    left_out = {root / name for name in (*statement.IGNORED, *ignored)} | {but.parent.resolve() / but.name}
    found: dict[str, Digest] = {}
    for file in _walk(root, left_out):
        found[file.relative_to(root).as_posix()] = _digest(file)
        if len(found) > _MAX_PATHS:
            raise bad_file(path, f"holds more than {_MAX_PATHS} files", "Name a folder that holds one model")
    if not found:
        raise NotFound(f"no files in {shown(path, 400)}", "Name a folder that holds a model")
    return found


def _walk(folder: Path, left_out: set[Path]) -> list[Path]:
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        mode = entry.lstat().st_mode
        if entry in left_out:
            continue
        if stat.S_ISDIR(mode):
            files += _walk(entry, left_out)
        elif stat.S_ISREG(mode):
            files.append(entry)
        else:
            raise bad_file(entry, "neither a file nor a folder, so it cannot be signed", "Put the file itself there")
    return files


def _digest(path: Path) -> Digest:
    """Of a file; of a bundle in parts, of the whole, so that it can be split and joined."""
    if path.exists():
        with regular_file(path):
            return Digest.of_file(path)
    with Parts(path) as parts:
        return Digest.of_chunks(parts.chunks(0, parts.size))
