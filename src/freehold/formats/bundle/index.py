"""The index of a bundle: what it holds, parsed and bounded before anything else of the file is believed."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from freehold.core.digest import Digest
from freehold.core.errors import BadName
from freehold.core.name import Name
from freehold.formats.reading import bad_file, shown

MAX_INDEX = 64 << 20
MAX_ITEMS = 200_000
MAX_TOTAL = 1 << 53
BLOBS, WHEELS = "blobs/sha256/", "wheels/"
# https://packaging.python.org/en/latest/specifications/binary-distribution-format/
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*(-[A-Za-z0-9_.+!]+){4,5}\.whl")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""Names that Windows takes for devices, whatever comes after a dot."""

Text = Annotated[str, Meta(max_length=255)]


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle."""

    path: Text
    digest: Text
    size: Annotated[int, Meta(ge=0, le=MAX_TOTAL)]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name, the manifest that it points to, and signatures of that model; each a file of the bundle."""

    name: Text
    manifest: Text
    signatures: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle holds. `items` are in the order of their paths, `models` in that of their names."""

    kind: str = "freehold-bundle"
    schema: int = 1
    models: Annotated[tuple[Model, ...], Meta(max_length=MAX_ITEMS)] = ()
    items: Annotated[tuple[Item, ...], Meta(max_length=MAX_ITEMS)] = ()

    def encode(self) -> bytes:
        """Canonical bytes: indented, for people who open the tar file."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"

    def blob(self, digest: Digest) -> Item | None:
        """The file with this content."""
        path = BLOBS + digest.hex
        return next((item for item in self.items if item.path == path), None)

    @property
    def wheels(self) -> list[str]:
        """File names of the wheels."""
        return [item.path.removeprefix(WHEELS) for item in self.items if item.path.startswith(WHEELS)]


def blob_item(digest: Digest, size: int) -> Item:
    """The item for a blob."""
    return Item(BLOBS + digest.hex, digest.text, size)


def wheel_item(filename: str, digest: Digest, size: int) -> Item:
    """The item for a wheel."""
    return Item(WHEELS + filename, digest.text, size)


def make(models: Sequence[Model], items: Sequence[Item]) -> Index:
    """An index in its one order."""
    unique = {item.path: item for item in items}
    return Index(
        models=tuple(sorted(models, key=lambda model: model.name)), items=tuple(unique[path] for path in sorted(unique))
    )


def parse(data: bytes, path: Path) -> Index:
    """The index that `data` holds, every field checked. Raises BadModelFile naming `path` and what is wrong."""
    try:
        index = msgspec.json.decode(data, type=Index)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise bad_file(path, f"its index is not valid: {error}") from error
    if index.kind != "freehold-bundle" or index.schema != 1:
        raise bad_file(path, "its index is of a kind or version that this Freehold does not read", "Upgrade Freehold")
    try:
        check(index)
    except ValueError as error:
        raise bad_file(path, f"its index {error}") from error
    # JSON can be written in many ways, and a key twice: only one is the bundle of this index.
    if index.encode() != data:
        raise bad_file(path, "its index is not written in canonical form")
    return index


def check(index: Index) -> None:
    """Raises ValueError saying what no index may hold."""
    _in_order("file", [item.path for item in index.items])
    _in_order("model", [model.name for model in index.models])
    folded = [item.path.lower() for item in index.items]
    if len(set(folded)) != len(folded):
        raise ValueError("names two files that differ in case only")
    if sum(item.size for item in index.items) > MAX_TOTAL:
        raise ValueError(f"claims more than {MAX_TOTAL} bytes in all")
    for item in index.items:
        _check_item(item)
    blobs = {item.digest for item in index.items if item.path.startswith(BLOBS)}
    for model in index.models:
        _check_model(model, blobs)


def _in_order(what: str, names: Sequence[str]) -> None:
    for before, after in pairwise(names):
        if before == after:
            raise ValueError(f"names the {what} {shown(after)!r} twice")
        if before > after:
            raise ValueError(f"does not list the {what} {shown(after)!r} in order")


def _check_item(item: Item) -> None:
    digest = _digest(item.digest, f"the file {shown(item.path)!r}")
    if item.path == BLOBS + digest.hex:
        return
    if item.path.startswith(BLOBS):
        raise ValueError(f"names the file {shown(item.path)!r}, which is not what its digest says")
    if not item.path.startswith(WHEELS) or not wheel_name(item.path.removeprefix(WHEELS)):
        raise ValueError(f"names the file {shown(item.path)!r}: {why_odd(item.path) or 'no bundle holds such a file'}")


def wheel_name(filename: str) -> bool:
    """Whether a wheel may be called this."""
    if len(filename) > 100 or not _WHEEL.fullmatch(filename):
        return False
    return filename.partition(".")[0].lower() not in _RESERVED


def _check_model(model: Model, blobs: set[str]) -> None:
    try:
        if str(Name.parse(model.name)) != model.name:
            raise ValueError(f"does not spell the model name {shown(model.name)!r} as Freehold does")
    except BadName as error:
        raise ValueError(f"has {error.message}") from error
    for digest in (model.manifest, *model.signatures):
        if _digest(digest, f"the model {model.name!r}").text not in blobs:
            raise ValueError(f"names {digest[:19]} for {model.name!r}, which is not in the bundle")


def _digest(text: str, what: str) -> Digest:
    try:
        return Digest(text)
    except BadName as error:
        raise ValueError(f"gives {what} the digest {shown(text)!r}, which is none") from error


def why_odd(name: str) -> str:
    """What is wrong with a file name for any operating system; empty when it is a plain relative one."""
    pieces = re.split(r"[/\\]", name)
    if not name:
        return "an empty name"
    if "\0" in name or not name.isprintable():
        return "a name with control characters"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute name"
    if ".." in pieces:
        return "a name that leaves the folder"
    if "\\" in name or any(piece.partition(".")[0].lower() in _RESERVED for piece in pieces):
        return "a name that means something else on Windows"
    if any(piece.endswith((".", " ")) or piece == "" for piece in pieces):
        return "a name that means something else on Windows"
    return ""
