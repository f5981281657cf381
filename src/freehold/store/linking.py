"""Letting other tools use models of ours: the files that they need, as hard links into the store, and undoing it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, Conflict, Damaged, Unsupported
from freehold.core.name import Name
from freehold.formats.atomic import disk_errors, replacing, sync_folder
from freehold.formats.reading import shown
from freehold.store import neighbours
from freehold.store.folders import plain_name
from freehold.store.neighbours.base import Place, Shared
from freehold.store.store import Store


class Change(NamedTuple):
    """A file written or removed, or that would be. `copied` says that it takes room of its own."""

    path: Path
    copied: bool = False


def link(
    store: Store,
    name: Name,
    tool: str,
    *,
    copy: bool = False,
    dry_run: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> list[Change]:
    """Make a model of ours one of `tool`'s. What is there already as it should be is left; what differs is a Conflict.

    With `copy` files are copied where the disk cannot link. Raises UnknownModel, Damaged, Unsupported, Conflict and
    DiskFull; what was written before an error is taken back.
    """
    root, places = _places(store, name, tool, environ)
    missing = [place for place in places if not _there(store, place)]
    taken = next((place for place in missing if os.path.lexists(place.path)), None)
    if taken is not None:
        raise Conflict(
            f"{shown(taken.path, 400)} is something else already", f"Remove it in {tool}, or link another name"
        )
    if dry_run:
        return [Change(place.path) for place in missing]
    done: list[Change] = []
    try:
        with store.lease(store.resolve(name)):
            for place in missing:
                done.append(Change(place.path, _write(store, place, copy)))
    except BaseException:
        for change in reversed(done):
            _remove(change.path, root)
        raise
    return done


def unlink(
    store: Store, name: Name, tool: str, *, dry_run: bool = False, environ: Mapping[str, str] = os.environ
) -> list[Change]:
    """Undo `link`: remove what is still as it was written and what no other model of the tool uses. Ours stays."""
    root, places = _places(store, name, tool, environ)
    neighbour = neighbours.named(tool)
    removed = []
    # What refers to others goes first, so that what it referred to is then unused, and a kill leaves no broken model.
    for place in reversed(places):
        if not _there(store, place) or (not dry_run and neighbour.used(root, place)):
            continue
        removed.append(Change(place.path))
        if not dry_run:
            _remove(place.path, root)
    return removed


def _places(store: Store, name: Name, tool: str, environ: Mapping[str, str]) -> tuple[Path, list[Place]]:
    neighbour, manifest = neighbours.named(tool), store.get(name)
    names = [part.filename for part in manifest.parts]
    odd = next((each for each in names if not plain_name(each) or names.count(each) > 1), None)
    if odd is not None:
        raise BadModelFile(f"the manifest has a part with the file name {shown(odd)!r}", "Import the model again")
    root = neighbour.roots(environ)[0]
    return root, neighbour.places(root, Shared(name, manifest, store.path))


def _there(store: Store, place: Place) -> bool:
    """Whether the file is as it should be."""
    if place.target:
        return place.path.is_symlink() and str(place.path.readlink()) == place.target
    if not place.path.is_file() or place.path.is_symlink():
        return False
    if place.text is not None:
        return place.path.stat().st_size == len(place.text) and place.path.read_bytes() == place.text
    blob = store.path(_digest(place))
    same_size = place.path.stat().st_size == blob.stat().st_size
    return place.path.samefile(blob) or (same_size and Digest.of_file(place.path) == place.blob)


def _digest(place: Place) -> Digest:
    if place.blob is None:
        raise Damaged(f"{shown(place.path, 400)} has no content to be given", "Report it")
    return place.blob


def _write(store: Store, place: Place, copy: bool) -> bool:
    """Write one file; whether it was copied."""
    with disk_errors(place.path.parent):
        place.path.parent.mkdir(parents=True, exist_ok=True)
        if place.target:
            place.path.symlink_to(place.target)
        elif place.text is not None:
            with replacing(place.path) as temporary:
                temporary.write_bytes(place.text)
        else:
            return _give(store.path(_digest(place)), place.path, copy)
        sync_folder(place.path.parent)
    return False


def _give(blob: Path, target: Path, copy: bool) -> bool:
    try:
        os.link(blob, target)
    except OSError as error:
        if not copy:
            raise Unsupported(
                f"{shown(target, 400)} cannot be a link to the store: {error.strerror}",
                "Use --copy, or put both on one disk",
            ) from error
    else:
        sync_folder(target.parent)
        return False
    with disk_errors(target.parent, blob.stat().st_size), replacing(target) as temporary:
        shutil.copyfile(blob, temporary)
    return True


def _remove(path: Path, root: Path) -> None:
    """Remove a file, and the folders that are empty then, up to the tool's own."""
    with disk_errors(path):
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == root or not folder.is_relative_to(root) or any(folder.iterdir()):
                return
            folder.rmdir()
