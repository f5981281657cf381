"""Models into the store, from a GGUF file or a folder, and out of it again as an ordinary folder."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, Damaged, FreeholdError, Unsupported
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.formats import gguf
from freehold.formats.atomic import disk_errors, sync_file
from freehold.formats.reading import bad_file, shown
from freehold.formats.safetensors import read_header as read_safetensors
from freehold.store.check import prune
from freehold.store.folders import inspect, plain_name
from freehold.store.store import Store

_LINK_FROM = 1 << 20
"""Bytes from which a part is linked out of the store; smaller ones are copied, since people edit them."""
_NO_LINEAGE = Lineage()
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,99}")


def import_gguf(
    store: Store,
    path: Path,
    name: Name,
    *,
    lineage: Lineage = _NO_LINEAGE,
    evidence: Sequence[Digest] = (),
    licence: str = "",
    move: bool = False,
    share: bool = False,
    expected: Digest | None = None,
    filename: str = "",
) -> Manifest:
    """Keep a GGUF file and let `name` point to it. The file is copied; with `move` it is gone afterwards.

    With `share` it becomes a hard link if it can. `expected` is the digest that it must have; `filename` the name to
    export it under. Raises NotFound, BadModelFile, Unsupported, Damaged and DiskFull, and then leaves nothing behind.
    """
    check_gguf(path)
    with _all_or_nothing(store), store.lease():
        digest, size = store.add_file(path, move=move, share=share, expected=expected)
        # What counts is what was stored: the file may have changed since the first look, which only saves the copying.
        header = check_gguf(store.path(digest), path)
        wanted = filename or path.name
        label = wanted if plain_name(wanted) else f"{name.model}.gguf"
        manifest = Manifest(
            parts=(Part("gguf", digest, size, label),),
            details=header.details(),
            lineage=lineage,
            evidence=tuple(evidence),
            licence=licence or _licence(header),
        )
        store.put(name, manifest)
    return manifest


@contextmanager
def _all_or_nothing(store: Store) -> Iterator[None]:
    """Remove what was added when the block fails (Ctrl-C too): an import that filled the disk must not keep it full."""
    try:
        yield
    except BaseException:
        with suppress(FreeholdError):
            prune(store)
        raise


def check_gguf(path: Path, shown_as: Path | None = None) -> gguf.GgufHeader:
    """The header of a file that holds a model, whole. Raises BadModelFile and Unsupported."""
    label = shown_as or path
    header = gguf.read_header(path)
    split = header.number("split.count")
    if split > 1:
        remedy = "Join the parts with llama.cpp's llama-gguf-split --merge, or fetch the model as one file"
        raise Unsupported(f"{shown(label, 400)}: one of {split} parts of a split GGUF", remedy)
    kind = header.metadata.get("general.type", "model")
    if kind != "model" or header.architecture == "clip":
        raise Unsupported(f"{shown(label, 400)}: a GGUF of type {shown(kind)!r}, not a model", "Pull a model's file")
    if not header.tensors:
        raise bad_file(label, "holds no weights")
    header.details()
    return header


def _licence(header: gguf.GgufHeader) -> str:
    licence = header.metadata.get("general.license", "")
    return licence if isinstance(licence, str) and _LICENCE.fullmatch(licence) else ""


def import_folder(
    store: Store,
    folder: Path,
    name: Name,
    *,
    lineage: Lineage = _NO_LINEAGE,
    evidence: Sequence[Digest] = (),
    licence: str = "",
    share: bool = False,
    expected: Mapping[str, Digest] = MappingProxyType({}),
) -> Manifest:
    """Keep a folder of safetensors weights (a model or a PEFT adapter) and let `name` point to it.

    With `share` large files become hard links if they can; `expected` are digests that files must have, by file name.
    Raises NotFound, BadModelFile, Damaged and DiskFull, and then leaves nothing behind.
    """
    inspected = inspect(folder)
    with _all_or_nothing(store), store.lease():
        parts = []
        for role, filename, path in inspected.members:
            large = share and path.stat().st_size >= _LINK_FROM
            digest, size = store.add_file(path, share=large, expected=expected.get(filename))
            if role in ("weights", "adapter"):
                read_safetensors(store.path(digest))
            parts.append(Part(role, digest, size, filename))
        manifest = Manifest(
            parts=tuple(parts),
            details=inspected.details,
            lineage=lineage,
            evidence=tuple(evidence),
            licence=licence,
        )
        store.put(name, manifest)
    return manifest


def materialise(store: Store, manifest: Manifest, folder: Path) -> None:
    """Write a model's parts under their own file names into `folder`, as any other program expects them.

    Large parts are hard links into the store where the file system can: read them, do not write to them. Raises
    Damaged, NotFound, BadModelFile and DiskFull.
    """
    names = [part.filename for part in manifest.parts]
    odd = next((name for name in names if not plain_name(name) or names.count(name) > 1), None)
    if odd is not None:
        raise BadModelFile(f"the manifest has a part with the file name {shown(odd)!r}", "Import the model again")
    with store.lease(*(part.digest for part in manifest.parts)), disk_errors(folder, manifest.size):
        folder.mkdir(parents=True, exist_ok=True)
        for part in manifest.parts:
            _write_part(store.path(part.digest), folder / part.filename, part)


def _write_part(blob: Path, target: Path, part: Part) -> None:
    if target.is_file() and not target.is_symlink() and target.samefile(blob):
        return
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        if part.size < _LINK_FROM or not _link(blob, temporary):
            shutil.copyfile(blob, temporary)
            sync_file(temporary)
        if temporary.stat().st_size != part.size:
            raise Damaged(f"{part.filename} has not the size that its manifest says", "Run 'freehold fsck'")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _link(blob: Path, target: Path) -> bool:
    try:
        os.link(blob, target)
    except OSError:
        return False
    return True
