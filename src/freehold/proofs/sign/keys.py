"""Keys: NIST P-256, P-384 and P-521, in PEM files that OpenSSL and the model-signing tool read and write too."""

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.core.errors import BadInput, Conflict, MissingExtra
from freehold.formats.atomic import disk_errors, replacing, sync_folder
from freehold.formats.reading import regular_file, shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

MAX_KEY = 1 << 16
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""Curve to the hash that goes with it."""


class PublicKey:
    """A key that signatures are checked with. `hint` is the SHA-256 of its PEM text, by which bundles name it."""

    def __init__(self, key: "EllipticCurvePublicKey", label: str) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key, self.label = key, label
        self.pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.hint = hashlib.sha256(self.pem).hexdigest()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key's holder signed `data`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

        try:
            self._key.verify(signature, data, ECDSA(_hash(self._key.curve.name)))
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """A key that signs."""

    def __init__(self, key: "EllipticCurvePrivateKey", label: str) -> None:
        self._key = key
        self.public = PublicKey(key.public_key(), label)

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`, in DER."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

        return self._key.sign(data, ECDSA(_hash(self._key.curve.name)))


def _hash(curve: str) -> "HashAlgorithm":
    from cryptography.hazmat.primitives import hashes

    made: HashAlgorithm = getattr(hashes, _CURVES[curve])()
    return made


def make(path: Path, passphrase: str = "") -> PublicKey:
    """Make a P-256 key pair in `path` (mode 0600, encrypted if there is a passphrase) and `path`.pub.

    Raises Conflict when either exists, BadInput and DiskFull; then neither is left.
    """
    need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    beside = path.with_name(path.name + ".pub")
    taken = next((file for file in (path, beside) if file.exists() or file.is_symlink()), None)
    if taken is not None:
        raise Conflict(f"{shown(taken, 400)} exists, and a key is never overwritten", "Choose another file")
    if not path.parent.is_dir():
        raise BadInput(f"no folder {shown(path.parent, 400)}", "Make it, or choose another file")
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    public = PublicKey(key.public_key(), str(beside))
    _write_private(path, pem)
    with replacing(beside) as temporary:
        temporary.write_bytes(public.pem)
    return public


def _write_private(path: Path, pem: bytes) -> None:
    """Never readable by others, not even for a moment."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    with disk_errors(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, it never replaces a key
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def private(path: Path, passphrase: str = "") -> PrivateKey:
    """The key in a PEM file. Raises NotFound, and BadInput for one that others can read or that is no such key."""
    need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise BadInput(f"others can read the private key {shown(path, 400)}", f"Run 'chmod 600 {shown(path, 400)}'")
    data = read(path)
    try:
        key = load_pem_private_key(data, passphrase.encode() or None)
    except TypeError as error:
        missing = "needs a passphrase" if not passphrase else "has no passphrase"
        raise BadInput(f"the key {shown(path, 400)} {missing}", "Set FREEHOLD_KEY_PASSPHRASE accordingly") from error
    except (ValueError, _unsupported()) as error:
        raise BadInput(f"{shown(path, 400)}: no private key, or the passphrase is wrong", _REMEDY) from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise BadInput(f"{shown(path, 400)}: not a key on P-256, P-384 or P-521", _REMEDY)
    return PrivateKey(key, str(path))


_REMEDY = "Make one: freehold keygen FILE"


def public(path: Path) -> PublicKey:
    """The public key in a PEM file. Raises NotFound and BadInput."""
    return parse_public(read(path), str(path))


def parse_public(data: bytes, label: str) -> PublicKey:
    """The public key that PEM text holds. Raises BadInput."""
    need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, _unsupported()) as error:
        raise BadInput(f"{shown(label, 400)}: no public key", "Give the .pub file of a key pair") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise BadInput(f"{shown(label, 400)}: not a key on P-256, P-384 or P-521", _REMEDY)
    return PublicKey(key, label)


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm

    return UnsupportedAlgorithm


def read(path: Path) -> bytes:
    """A key file's bytes. Raises NotFound and BadInput."""
    with regular_file(path) as (file, size):
        if size > MAX_KEY:
            raise BadInput(f"{shown(path, 400)}: {size} bytes are too many for a key", _REMEDY)
        return file.read(MAX_KEY)


def need_cryptography() -> None:
    """Raises MissingExtra without the package that signs."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingExtra("signing needs the package cryptography", "pip install cryptography") from error
