"""What is signed: an in-toto statement that lists files and their digests, as OMS v1 has it."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadName

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
MAX_FILES = 100_000
IGNORED = ("model.sig", ".git", ".gitattributes", ".github", ".gitignore")
"""What in a folder is not part of a model, as the model-signing tool has it."""

Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class Resource(msgspec.Struct, frozen=True):
    """One file. `.` is the name of one that is signed alone."""

    name: Text
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    algorithm: Literal["sha256"] = "sha256"


class Subject(msgspec.Struct, frozen=True):
    """The whole, by the digest of its files' digests in order."""

    name: Annotated[str, Meta(max_length=4096)]
    digest: Annotated[dict[str, str], Meta(max_length=8)]


class Serialization(msgspec.Struct, frozen=True):
    """How a folder became a list of files."""

    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: bool = False
    ignore_paths: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()


class Predicate(msgspec.Struct, frozen=True):
    """The files."""

    serialization: Serialization
    resources: Annotated[tuple[Resource, ...], Meta(min_length=1, max_length=MAX_FILES)]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """An in-toto statement about a model."""

    type: str = msgspec.field(name="_type", default=STATEMENT)
    subject: Annotated[tuple[Subject, ...], Meta(min_length=1, max_length=1)]
    predicate_type: str = msgspec.field(name="predicateType", default=PREDICATE)
    predicate: Predicate

    @property
    def files(self) -> dict[str, Digest]:
        """Name to digest of every file."""
        return {resource.name: Digest("sha256:" + resource.digest) for resource in self.predicate.resources}

    def encode(self) -> bytes:
        """Canonical bytes."""
        return msgspec.json.encode(self, order="sorted")


def of(name: str, files: Mapping[str, Digest]) -> Statement:
    """The statement about these files; `name` says what they are together."""
    resources = tuple(Resource(file, files[file].hex) for file in sorted(files, key=PurePosixPath))
    return Statement(
        subject=(Subject(name, {"sha256": _root(resources)}),),
        predicate=Predicate(Serialization("files", "sha256", False, IGNORED), resources),
    )


def _root(resources: Sequence[Resource]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(resource.digest) for resource in resources)).hexdigest()


def parse(data: bytes) -> Statement:
    """The statement that `data` holds. Raises BadInput saying what is wrong."""
    try:
        statement = msgspec.json.decode(data, type=Statement)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, BadName) as error:
        raise BadInput(f"what was signed is not about files by SHA-256: {error}", "Sign with freehold sign") from error
    if (statement.type, statement.predicate_type) != (STATEMENT, PREDICATE):
        raise BadInput(f"what was signed is a {statement.predicate_type[:80]!r}, not a model", "Sign the model itself")
    names = [resource.name for resource in statement.predicate.resources]
    if len(set(names)) != len(names):
        raise BadInput("what was signed names a file twice", "Sign with freehold sign")
    if statement.subject[0].digest.get("sha256") != _root(statement.predicate.resources):
        raise BadInput("what was signed contradicts itself: its digest is not that of its files", "Sign again")
    return statement


def differences(statement: Statement, files: Mapping[str, Digest]) -> list[str]:
    """What is not as it was signed; empty when every file is there, unchanged, and none was added."""
    signed: Mapping[str, Any] = statement.files
    changed = [f"{name} has changed" for name in signed if name in files and files[name] != signed[name]]
    missing = [f"{name} is missing" for name in signed if name not in files]
    added = [f"{name} was not signed" for name in files if name not in signed]
    return changed + missing + added
