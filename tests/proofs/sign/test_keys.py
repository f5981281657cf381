"""Key files: private to their owner, never overwritten, read by and from OpenSSL."""

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from freehold.core.errors import BadInput, Conflict, NotFound
from freehold.proofs.sign import keys
from freehold.proofs.sign.keys import PrivateKey


def test_a_key_pair(tmp_path: Path) -> None:
    public = keys.make(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.pub"]
    assert keys.private(tmp_path / "key").public.hint == public.hint == keys.public(tmp_path / "key.pub").hint
    assert public.verifies(keys.private(tmp_path / "key").sign(b"text"), b"text")
    assert not public.verifies(keys.private(tmp_path / "key").sign(b"text"), b"other")
    assert not public.verifies(b"junk", b"text")


def test_the_umask_does_not_open_a_private_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.make(tmp_path / "key")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    for taken in ("key", "key.pub"):
        (tmp_path / taken).write_text("mine")
        with pytest.raises(Conflict, match="never overwritten"):
            keys.make(tmp_path / "key")
        assert [path.name for path in tmp_path.iterdir()] == [taken]
        (tmp_path / taken).unlink()
    with pytest.raises(BadInput, match="no folder"):
        keys.make(tmp_path / "none" / "key")


def test_a_passphrase(tmp_path: Path) -> None:
    keys.make(tmp_path / "key", "secret")
    assert b"ENCRYPTED" in (tmp_path / "key").read_bytes()
    assert keys.private(tmp_path / "key", "secret").sign(b"x")
    with pytest.raises(BadInput, match="needs a passphrase"):
        keys.private(tmp_path / "key")
    with pytest.raises(BadInput, match="passphrase is wrong"):
        keys.private(tmp_path / "key", "wrong")
    keys.make(tmp_path / "open")
    with pytest.raises(BadInput, match="has no passphrase"):
        keys.private(tmp_path / "open", "secret")


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keys.make(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(BadInput, match="others can read") as caught:
        keys.private(tmp_path / "key")
    assert "chmod 600" in caught.value.remedy


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_keys_of_others(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    made = ec.generate_private_key(curve)
    (tmp_path / "k").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    (tmp_path / "k").chmod(0o600)
    found = keys.private(tmp_path / "k")
    assert found.public.verifies(found.sign(b"text"), b"text")


def test_other_kinds_of_keys_are_refused(tmp_path: Path, key_file: Path) -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    bitcoin = ec.generate_private_key(ec.SECP256K1())
    for made in (edwards, bitcoin):
        (tmp_path / "k").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (tmp_path / "k").chmod(0o600)
        with pytest.raises(BadInput, match="P-256"):
            keys.private(tmp_path / "k")
        (tmp_path / "p").write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(BadInput, match="P-256"):
            keys.public(tmp_path / "p")
    with pytest.raises(BadInput, match="no public key"):
        keys.public(key_file)
    (tmp_path / "k").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(BadInput, match="no private key"):
        keys.private(tmp_path / "k")
    with pytest.raises(NotFound, match="no such file"):
        keys.private(tmp_path / "none")
    (tmp_path / "large").write_bytes(bytes(100_000))
    with pytest.raises(BadInput, match="too many for a key"):
        keys.public(tmp_path / "large")


def test_openssl_accepts_our_signatures(tmp_path: Path, key_file: Path, key: PrivateKey) -> None:
    (tmp_path / "text").write_bytes(b"text")
    (tmp_path / "sig").write_bytes(key.sign(b"text"))
    command = ["openssl", "dgst", "-sha256", "-verify", f"{key_file}.pub", "-signature", "sig", "text"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert done.stdout == "Verified OK\n"
