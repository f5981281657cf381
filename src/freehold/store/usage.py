"""What the store takes on the disk, and for whom."""

from collections import Counter
from contextlib import suppress

import msgspec

from freehold.core.digest import Digest
from freehold.core.manifest import Manifest
from freehold.store.store import Store


class ModelUsage(msgspec.Struct, frozen=True):
    """Bytes of one name's files: those that no other name uses, and those that it shares."""

    name: str
    own: int
    shared: int


class Usage(msgspec.Struct, frozen=True):
    """Bytes of the whole store. `models` add up to more than `total` where they share."""

    models: tuple[ModelUsage, ...]
    steps: int
    """Of what finished recipe steps and conversions keep, beside models."""
    unused: int
    """Of what nothing refers to: prune frees it."""
    temporary: int
    """Of unfinished files."""
    linked: int
    """Of all these, in files that have another name outside the store: they free nothing while that exists."""
    total: int


def usage(store: Store) -> Usage:
    """What everything takes now. Raises Damaged naming a model whose manifest cannot be read."""
    sizes, linked = _sizes(store)
    needs = {str(entry.name): _needs(entry.digest, entry.manifest) & sizes.keys() for entry in store.list()}
    users = Counter(digest for digests in needs.values() for digest in digests)
    models = [
        ModelUsage(
            name,
            own=sum(sizes[digest] for digest in digests if users[digest] == 1),
            shared=sum(sizes[digest] for digest in digests if users[digest] > 1),
        )
        for name, digests in needs.items()
    ]
    stepped = {digest for _, digest in store.catalog.step_references()} & sizes.keys() - users.keys()
    steps = sum(sizes[digest] for digest in stepped)
    unused = sum(size for digest, size in sizes.items() if digest not in users and digest not in stepped)
    temporary = _temporary(store)
    return Usage(tuple(models), steps, unused, temporary, linked, sum(sizes.values()) + temporary)


def _needs(digest: Digest, manifest: Manifest) -> set[Digest]:
    lineage = manifest.lineage
    documents = {each for each in (digest, lineage.recipe, *lineage.data, *manifest.evidence) if each}
    return documents | {part.digest for part in manifest.parts}


def _sizes(store: Store) -> tuple[dict[Digest, int], int]:
    """The size of every blob, and the bytes of those that have another name."""
    sizes, linked = {}, 0
    for path, digest in store.blobs.files():
        if digest is None:
            continue
        with suppress(FileNotFoundError):  # pruned meanwhile
            status = path.lstat()
            sizes[digest] = status.st_size
            linked += status.st_size if status.st_nlink > 1 else 0
    return sizes, linked


def _temporary(store: Store) -> int:
    size = 0
    for path in store.blobs.incoming.iterdir():
        with suppress(FileNotFoundError):
            size += path.lstat().st_size
    return size
