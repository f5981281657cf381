"""Mending: blobs that are damaged or missing, from anything that has the same content.

A healer (`healers` has those there are) offers files that may have it; each is read and compared with the digest before
it takes the blob's place, so a healer need not be trusted.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Damaged, NotFound
from freehold.core.manifest import Manifest
from freehold.formats.reading import shown
from freehold.store.store import Store


class Wanted(msgspec.Struct, frozen=True):
    """A blob to be had again."""

    digest: Digest
    size: int = 0
    """Bytes; 0 where nobody says."""
    filename: str = ""
    source: str = ""
    """Where its model came from."""
    model: str = ""


class Repaired(msgspec.Struct, frozen=True):
    """A blob that is whole again, and what it was taken from."""

    digest: Digest
    model: str
    origin: str


class Healer(Protocol):
    """A place that may have lost content."""

    def offer(self, wanted: Wanted) -> Generator[Path, None, None]:
        """Files that may be it; a file may be gone when the next is asked for, or the iterator closed."""
        ...


def broken(store: Store) -> list[Wanted]:
    """What models need and cannot use, by opening each blob as a worker would. What fsck read before is remembered."""
    found: dict[Digest, Wanted] = {}
    for bound in store.catalog.bound():
        name = str(bound.name)
        if not _whole(store, bound.digest):
            found[bound.digest] = Wanted(bound.digest, model=name)
            continue
        manifest = store.manifest(bound.digest)
        for wanted in _needs(manifest, name):
            if wanted.digest not in found and not _whole(store, wanted.digest):
                found[wanted.digest] = wanted
    return list(found.values())


def _needs(manifest: Manifest, model: str) -> Iterator[Wanted]:
    for part in manifest.parts:
        yield Wanted(part.digest, part.size, part.filename, manifest.lineage.source, model)
    for digest in manifest.evidence:
        yield Wanted(digest, model=model)


def _whole(store: Store, digest: Digest) -> bool:
    try:
        store.path(digest)
    except (NotFound, Damaged):
        return False
    return True


def repair(store: Store, healers: Sequence[Healer]) -> list[Repaired]:
    """Mend what can be mended, each blob by the first healer that has it. What is left, fsck names. Raises NoRoom."""
    done: list[Repaired] = []
    tried: set[Digest] = set()
    # A manifest that is whole again may need parts that are not.
    while wanted := [each for each in broken(store) if each.digest not in tried]:
        tried |= {each.digest for each in wanted}
        done += [mended for each in wanted if (mended := _mended(store, each, healers)) is not None]
    return done


def _mended(store: Store, wanted: Wanted, healers: Sequence[Healer]) -> Repaired | None:
    for healer in healers:
        origin = _heal(store, wanted, healer)
        if origin is not None:
            return Repaired(wanted.digest, wanted.model, origin)
    return None


def _heal(store: Store, wanted: Wanted, healer: Healer) -> str | None:
    with closing(healer.offer(wanted)) as offered:
        for path in offered:
            if _restored(store, wanted.digest, path):
                return shown(path, 400)
    return None


def _restored(store: Store, digest: Digest, path: Path) -> bool:
    if path == store.blobs.path(digest):  # a healer that fetches brings it there itself
        return _whole(store, digest)
    try:
        store.restore(digest, path)
    except (Damaged, NotFound):  # not the content that it was taken for; the next may be
        return False
    return True
