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
from freehold.core.manifest import Lineage, Manifest, Part, Role
from freehold.core.name import Name
from freehold.formats import gguf
from freehold.formats.atomic import disk_errors, sync_file
from freehold.formats.reading import shown
from freehold.formats.safetensors import read_header as read_safetensors
from freehold.store import projectors, splits
from freehold.store.check import prune
from freehold.store.folders import inspect, plain_name
from freehold.store.store import Store

_LINK_FROM = 1 << 20
"""Bytes from which a part is linked out of the store; smaller ones are copied, since people edit them."""
_NO_LINEAGE = Lineage()
_KINDS = ("model", "adapter")
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
    expected: Mapping[str, Digest] = MappingProxyType({}),
    filename: str = "",
    projector: Path | None = None,
    beside: Sequence[Part] = (),
) -> Manifest:
    """Keep a GGUF file, a model or an adapter, and the other parts of a split one, and let `name` point to it.

    The file is copied; with `move` it is gone afterwards, with `share` it becomes a hard link if it can. `expected` are
    digests that files must have, by file name; `filename` is what to export a single one as. With a `projector` it sees
    images; `beside` are parts that the store has already. Raises NotFound, BadModelFile, Unsupported, Damaged and
    DiskFull, and then leaves nothing behind.
    """
    paths = splits.files(path)
    splits.header(paths, paths, kinds=_KINDS)
    with all_or_nothing(store), store.lease():
        stored = [
            store.add_file(part.resolve() if share else part, move=move, share=share, expected=expected.get(part.name))
            for part in paths
        ]
        # What counts is what was stored: a file may have changed since the first look, which only saves the copying.
        blobs = [store.path(digest) for digest, _ in stored]
        header = splits.header(blobs, paths, kinds=_KINDS)
        role: Role = "adapter" if header.metadata.get("general.type") == "adapter" else "gguf"
        if role == "adapter" and projector is not None:
            raise Unsupported(f"{shown(path, 400)} is an adapter, which sees nothing", "Give the projector to its base")
        names = gguf_names([filename] if filename else [part.name for part in paths], name)
        parts = tuple(Part(role, *kept, label) for kept, label in zip(stored, names, strict=True))
        if projector is not None:
            parts += (projectors.keep(store, projector, names, share=share, expected=expected),)
        manifest = Manifest(
            parts=(*parts, *beside),
            details=header.details(),
            lineage=lineage,
            evidence=tuple(evidence),
            licence=licence or gguf_licence(blobs[0]),
        )
        store.put(name, manifest)
    return manifest


def gguf_names(filenames: Sequence[str], name: Name) -> list[str]:
    """What to call the files of a model: as they were called, unless that cannot be written everywhere."""
    if all(plain_name(filename) for filename in filenames):
        return list(filenames)
    count = len(filenames)
    return [
        f"{name.model}-{n:05d}-of-{count:05d}.gguf" if count > 1 else f"{name.model}.gguf" for n in range(1, count + 1)
    ]


@contextmanager
def all_or_nothing(store: Store) -> Iterator[None]:
    """Remove what was added when the block fails (Ctrl-C too): an import that filled the disk must not keep it full."""
    try:
        yield
    except BaseException:
        with suppress(FreeholdError):
            prune(store)
        raise


def gguf_licence(path: Path) -> str:
    """The licence that a GGUF header names, if it is a plain word."""
    licence = gguf.read_header(path).metadata.get("general.license", "")
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
    with all_or_nothing(store), store.lease():
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


def link_or_copy(blob: Path, target: Path) -> None:
    """The blob under another name, to be looked at and not written to."""
    if not _link(blob, target):
        shutil.copyfile(blob, target)


def _link(blob: Path, target: Path) -> bool:
    try:
        os.link(blob, target)
    except OSError:
        return False
    return True
