"""A signature file: a Sigstore bundle v0.3 with a DSSE envelope, signed with ECDSA."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from freehold.core.errors import BadInput, Forbidden
from freehold.proofs.sign.keys import PrivateKey, PublicKey
from freehold.proofs.sign.statement import Statement, parse

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


class _Hint(msgspec.Struct):
    hint: Annotated[str, Meta(max_length=256)] = ""


class _Material(msgspec.Struct, rename="camel"):
    public_key: _Hint
    tlog_entries: tuple[msgspec.Raw, ...] = ()


class _Signature(msgspec.Struct):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=16)]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


def preauthentication(payload: bytes) -> bytes:
    """What DSSE signs: the payload behind its type and both lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def sign(statement: Statement, key: PrivateKey) -> bytes:
    """The signature file's bytes."""
    payload = statement.encode()
    signature = _Signature(base64.b64encode(key.sign(preauthentication(payload))).decode())
    envelope = _Envelope(base64.b64encode(payload).decode(), PAYLOAD_TYPE, (signature,))
    return msgspec.json.encode(_Bundle(MEDIA_TYPE, _Material(_Hint(key.public.hint)), envelope))


def verify(data: bytes, keys: Sequence[PublicKey], label: str = "the signature") -> tuple[Statement, PublicKey]:
    """What was signed, and the one of `keys` that signed it.

    Raises BadInput for what is no such file, Forbidden when none of the keys signed it.
    """
    bundle = _decode(data, label)
    try:
        payload = base64.b64decode(bundle.dsse_envelope.payload, validate=True)
        signatures = [base64.b64decode(given.sig, validate=True) for given in bundle.dsse_envelope.signatures]
    except (binascii.Error, ValueError) as error:
        raise _unreadable(label, "it is not base64 inside") from error
    signed = preauthentication(payload)
    for key in keys:
        if any(key.verifies(signature, signed) for signature in signatures):
            return parse(payload), key
    hint = bundle.verification_material.public_key.hint
    if any(key.hint == hint for key in keys):
        raise Forbidden(f"{label} is wrong: what it signs, or the signature, was changed", "Get both again")
    named = f" (it names the key {hint[:16]!r})" if hint else ""
    raise Forbidden(f"{label} is not by a key that is trusted here{named}", "Give its public key: --key FILE.pub")


def _decode(data: bytes, label: str) -> _Bundle:
    try:
        bundle = msgspec.json.decode(data, type=_Bundle)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(label, str(error)) from error
    if bundle.dsse_envelope.payload_type != PAYLOAD_TYPE or not bundle.media_type.startswith(
        "application/vnd.dev.sigstore.bundle"
    ):
        raise _unreadable(label, "its media or payload type is another")
    return bundle


def _unreadable(label: str, why: str) -> BadInput:
    return BadInput(f"{label} is not in the model-signing format: {why}", "Sign with 'freehold sign'")
