"""fsck: is everything that a model needs there and right? prune: remove what nothing needs."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Damaged, NotFound
from freehold.core.manifest import Manifest
from freehold.formats.reading import files_below
from freehold.store import splits
from freehold.store.partials import PARTIAL, sweep
from freehold.store.rooms import ROOMS, abandoned
from freehold.store.splits import SPLIT
from freehold.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Finding(msgspec.Struct, frozen=True):
    """Something wrong in the store."""

    kind: Literal["missing", "damaged", "foreign", "catalog"]
    subject: str
    """The model, blob or file that it is about."""
    detail: str


class PruneReport(msgspec.Struct, frozen=True):
    """What was removed, or would be."""

    blobs: tuple[Digest, ...] = ()
    temporary: int = 0
    """Unfinished files that dead processes left."""
    size: int = 0
    """Bytes in all."""


def fsck(store: Store, deep: bool = False) -> list[Finding]:
    """What is wrong, none when the store is clean. `deep` reads every byte, otherwise only what changed on the disk.

    Unfinished files and blobs that nothing refers to are not damage; prune removes them.
    """
    try:
        integrity = store.catalog.integrity()
    except Damaged as error:
        integrity = error.message
    if integrity != "ok":
        return [Finding("catalog", str(store.catalog.path), integrity)]
    bad = {finding.subject: finding for finding in _check_files(store, deep)}
    return [*bad.values(), *_check_models(store, bad), *_check_steps(store, bad)]


def _check_files(store: Store, deep: bool) -> Iterator[Finding]:
    for path, digest in store.blobs.files():
        if digest is None:
            yield Finding("foreign", str(path), "is no blob")
            continue
        try:
            if deep:
                store.verify(digest)
            else:
                store.path(digest)
        except NotFound:
            continue  # pruned since it was listed
        except Damaged as error:
            if os.path.lexists(path):
                yield Finding("damaged", str(digest), error.message)


def _check_models(store: Store, bad: dict[str, Finding]) -> Iterator[Finding]:
    for name, digest, _ in store.catalog.bound():
        found = [*_check_model(store, digest, bad)]
        # A model that was removed and pruned while we looked is not damaged.
        if found and any(bound.digest == digest for bound in store.catalog.bound(name)):
            yield from (Finding(kind, str(name), detail) for kind, detail in found)


def _check_model(
    store: Store, digest: Digest, bad: dict[str, Finding]
) -> Iterator[tuple[Literal["missing", "damaged"], str]]:
    if str(digest) in bad:
        yield "damaged", f"its manifest: {bad[str(digest)].detail}"
        return
    try:
        manifest = store.manifest(digest)
    except NotFound:
        yield "missing", f"its manifest {digest.short} is not in the store"
        return
    except Damaged as error:
        yield ("damaged" if os.path.lexists(store.blobs.path(digest)) else "missing"), error.message
        return
    labels = {part.digest: part.filename for part in manifest.parts} | dict.fromkeys(manifest.evidence, "evidence")
    for needed, label in labels.items():
        if str(needed) in bad:
            yield "damaged", f"{label}: {bad[str(needed)].detail}"
        elif (problem := _problem(store, needed)) is not None:
            yield problem[0], f"{label}: {problem[1]}"


def _problem(store: Store, digest: Digest) -> tuple[Literal["missing", "damaged"], str] | None:
    """What is wrong with a blob at first sight."""
    try:
        found = store.blobs.stamp(digest)
    except Damaged as error:  # a folder has its name, which is not listed among the files
        return "damaged", error.message
    return None if found else ("missing", f"blob {digest.short} is not in the store")


def _check_steps(store: Store, bad: dict[str, Finding]) -> Iterator[Finding]:
    for key, digest in store.catalog.step_references():
        problem = None if str(digest) in bad else _problem(store, digest)
        if problem and store.catalog.recall(key):
            yield Finding(problem[0], f"step {key}", problem[1])


def prune(store: Store, dry_run: bool = False, unfinished: bool = False) -> PruneReport:
    """Remove blobs that no manifest, lease or step refers to, and unfinished files of dead processes.

    Downloads that a pull can go on with stay, unless `unfinished` and no process holds them.
    Nobody can add, lease or name anything meanwhile. Raises Damaged when a manifest in use cannot be read: what it
    refers to is then unknown, and nothing is removed.
    """
    with store.catalog.writing() as connection:
        used = _used(store, connection)
        garbage = [(path, digest) for path, digest in store.blobs.files() if digest and digest not in used]
        orphans = store.blobs.orphans()
        swept = sweep(store.folder / PARTIAL, store.blobs, unfinished=unfinished, dry_run=dry_run)
        rooms = abandoned(store.folder / ROOMS)
        inside = [path for room in rooms for path, _ in files_below(room)]
        size = _size([path for path, _ in garbage] + orphans + inside)
        if not dry_run:
            for path in [*orphans, *(path for path, _ in garbage)]:
                path.unlink(missing_ok=True)
            for room in rooms:
                shutil.rmtree(room, ignore_errors=True)
            store.catalog.drop_unused(connection, [digest for _, digest in garbage])
            splits.forget(store.folder / SPLIT, used)
    size += sum(leftover.size for leftover in swept)
    return PruneReport(tuple(digest for _, digest in garbage), len(orphans) + len(rooms) + len(swept), size)


def _size(paths: Iterable[Path]) -> int:
    size = 0
    for path in paths:
        with suppress(FileNotFoundError):  # its process finished after all
            size += path.lstat().st_size
    return size


def _used(store: Store, connection: "Connection") -> set[Digest]:
    """Everything that must stay: what is referred to, and for a manifest what it refers to in turn."""
    from freehold.store.catalog import roots

    named, held, manifests = roots(connection)
    used: set[Digest] = set()
    held_models = {digest for digest in held & manifests if store.blobs.stamp(digest)}
    whole, headers = named | held_models, []
    for digest in whole:
        manifest = _manifest(store, digest)
        used.update({digest, *manifest.evidence, *manifest.lineage.data}, (part.digest for part in manifest.parts))
        used.update(d for d in (manifest.lineage.recipe,) if d)
        headers += [d for d in (manifest.lineage.base,) if d]
    for digest in headers:  # a base is kept as a document; its weights only while something else uses them
        if digest in used or store.blobs.stamp(digest) is None:
            continue
        used.add(digest)
        base = _manifest(store, digest).lineage.base if digest in manifests else None
        headers += [base] if base else []
    return used | held


def _manifest(store: Store, digest: Digest) -> Manifest:
    try:
        present = store.blobs.stamp(digest)
    except Damaged as error:
        raise _unknown(digest, "is not a regular file") from error
    if present is None:
        raise _unknown(digest, "is missing")
    data = store.blobs.path(digest).read_bytes()
    if Digest.of_bytes(data) != digest:
        raise _unknown(digest, "has changed")
    return Manifest.decode(data)


def _unknown(digest: Digest, what: str) -> Damaged:
    return Damaged(
        f"nothing was pruned: manifest {digest.short} {what}", "Run 'freehold fsck', then pull it again or rm it"
    )
