"""Models out of the store into a bundle, and out of a bundle into the store."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Damaged, FreeholdError, NotFound
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.formats.atomic import disk_full
from freehold.formats.bundle.index import Index, Item, Model, blob_item, make, wheel_item, wheel_name
from freehold.formats.bundle.layout import layout, total
from freehold.formats.bundle.reading import Bundle
from freehold.formats.bundle.writing import write
from freehold.formats.reading import regular_file, shown
from freehold.store import signatures
from freehold.store.check import prune
from freehold.store.store import Store

_CHUNK = 1 << 20
Progress = Callable[[int, int], None]


def _silent(done: int, size: int) -> None:
    pass


class Packing(msgspec.Struct, frozen=True):
    """What goes into a bundle, and where each file's bytes are."""

    index: Index
    sources: dict[str, Path | bytes]

    @property
    def size(self) -> int:
        """Bytes of the whole bundle."""
        return total(layout(self.index))


class Imported(msgspec.Struct, frozen=True):
    """What an import did, or would do."""

    models: tuple[tuple[Name, Digest], ...]
    moved: tuple[Name, ...]
    """Names that pointed to another model before."""
    added: int
    """Bytes that the store did not have."""
    wheels: tuple[str, ...]


def pack(store: Store, names: Sequence[Name], wheels: Sequence[Path] = ()) -> Packing:
    """What a bundle of these models holds: manifests, parts, evidence, recipes and signatures, not the training data.

    Raises UnknownModel, Damaged, NotFound, and BadInput for a file that is no wheel.
    """
    items: list[Item] = []
    sources: dict[str, Path | bytes] = {}

    def keep(item: Item, source: Path | bytes) -> str:
        items.append(item)
        sources[item.path] = source
        return item.digest

    def keep_blob(digest: Digest) -> None:
        path = store.path(digest)
        keep(blob_item(digest, path.stat().st_size), path)

    models = []
    for name in dict.fromkeys(names):
        digest = store.resolve(name)
        for needed in _needed(store, digest):
            keep_blob(needed)
        signed = tuple(
            keep(blob_item(Digest.of_bytes(data), len(data)), data) for data in signatures.read(store.folder, digest)
        )
        models.append(Model(str(name), digest.text, tuple(sorted(set(signed)))))
    for wheel in wheels:
        keep(_wheel(wheel), wheel)
    return Packing(make(models, items), sources)


def _needed(store: Store, digest: Digest) -> Iterator[Digest]:
    """A model's manifest and what belongs to it, then the manifests (not the weights) that it descends from."""
    manifest = store.manifest(digest)
    yield digest
    yield from (part.digest for part in manifest.parts)
    yield from manifest.evidence
    if manifest.lineage.recipe is not None:
        yield from _if_present(store, manifest.lineage.recipe)
    seen = {digest}
    while (base := manifest.lineage.base) is not None and base not in seen and [*_if_present(store, base)]:
        seen.add(base)
        yield base
        manifest = store.manifest(base)


def _if_present(store: Store, digest: Digest) -> Iterator[Digest]:
    if store.blobs.stamp(digest) is not None:
        yield digest


def _wheel(path: Path) -> Item:
    if not wheel_name(path.name):
        raise BadInput(f"not a wheel: {shown(path, 400)}", "Name a folder of .whl files")
    with regular_file(path) as (_, size):
        return wheel_item(path.name, Digest.of_file(path), size)


def export(
    store: Store, packing: Packing, path: Path, *, split: int = 0, on_progress: Progress = _silent
) -> list[Path]:
    """Write the bundle. The files written. Raises Conflict, DiskFull and Damaged, and then leaves nothing."""

    def contents(item: Item) -> Iterator[bytes]:
        source = packing.sources[item.path]
        return _read(source) if isinstance(source, Path) else iter((source,))

    blobs = [Digest(item.digest) for item in packing.index.items]
    with store.lease(*blobs):
        return write(packing.index, contents, path, split=split, on_progress=on_progress)


def _read(path: Path) -> Iterator[bytes]:
    with regular_file(path) as (file, _):
        while chunk := file.read(_CHUNK):
            yield chunk


def bring(
    store: Store, bundle: Bundle, name: Name | None = None, *, dry_run: bool = False, on_progress: Progress = _silent
) -> Imported:
    """Take the models of a bundle into the store, after every byte of it was checked. Wheels stay where they are.

    With `name` its one model is called that, else each as in the bundle.
    What an interrupted call brought is not copied again. Raises BadModelFile, and DiskFull; then the store is as it
    was.
    """
    bundle.verify(on_progress)
    manifests = {name or Name.parse(model.name): (bundle.manifest(model), model) for model in bundle.index.models}
    wanted = [item for item in _blobs(bundle) if not _whole(store, Digest(item.digest))]
    size = sum(item.size for item in wanted)
    names = tuple((name, manifest.digest) for name, (manifest, _) in manifests.items())
    report = Imported(names, _moved(store, names), size, tuple(bundle.index.wheels))
    if dry_run:
        return report
    store.blobs.afford(size)
    if shutil.disk_usage(store.folder).free < size:
        raise disk_full(store.folder, size)
    try:
        with store.lease():
            _take(store, bundle, wanted, manifests)
    except FreeholdError:
        with suppress(FreeholdError):
            prune(store)
        raise
    return report


def _take(store: Store, bundle: Bundle, wanted: list[Item], manifests: dict[Name, tuple[Manifest, Model]]) -> None:
    for item in wanted:
        store.add_stream(bundle.contents(item), Digest(item.digest), item.size)
    for name, (manifest, model) in manifests.items():
        found = [bundle.index.blob(Digest(digest)) for digest in model.signatures]
        signed = [b"".join(bundle.contents(item)) for item in found if item and item.size <= signatures.MAX_SIGNATURE]
        signatures.add(store.folder, manifest.digest, signed)
        store.put(name, manifest)


def _blobs(bundle: Bundle) -> list[Item]:
    """What becomes blobs: all but wheels and signatures."""
    signed = {digest for model in bundle.index.models for digest in model.signatures}
    return [item for item in bundle.index.items if item.path.startswith("blobs/") and item.digest not in signed]


def _whole(store: Store, digest: Digest) -> bool:
    try:
        store.path(digest)
    except (NotFound, Damaged):
        return False
    return True


def _moved(store: Store, names: Sequence[tuple[Name, Digest]]) -> tuple[Name, ...]:
    return tuple(name for name, digest in names for bound in store.catalog.bound(name) if bound.digest != digest)
