"""The store: blobs by digest, manifests, and a catalog (names, leases, finished steps). Safe when killed at any point.

Store.open(settings.store) -> Store
    add_file(path, *, move, share, expected) -> (Digest, size)     add_bytes(data) -> Digest
    path(digest) -> Path, checked
    put(name, manifest) -> Digest     get(name) -> Manifest     resolve(name) -> Digest     list() -> [Entry]
    listing() -> [Listed], out of the catalog alone     holds(path) -> Digest, of a file that is a blob already
    blobs.admit(size): NoRoom or DiskFull before anything is written
    remove(name)     lease(*digests): keeps blobs, and what is added meanwhile, from prune
    runs.remember_step(key, result, digests)     runs.recall_step(key) -> bytes | None     runs.forget(key)
listing.glance(folder) -> [Listed] | None, in a tenth of the time that opening the store takes
importing.import_gguf(store, path, name), import_folder(store, folder, name), materialise(store, manifest, folder)
pulling.look(reference, outbound) -> Offer, pulling.take(store, outbound, offer, name): from anywhere, see sources/
bundles.pack(store, names), export(store, packing, path), bring(store, bundle); signatures; pushing/
creating.create(store, name, modelfile, folder, convert), modelfile_of(store, name), copy(store, old, new)
neighbours: models in other tools' stores     adopting.adopt(store, found, name)     linking.link(store, name, tool)
check.fsck(store, deep=False) -> [Finding]     check.prune(store, dry_run=False, unfinished=False)
repair.repair(store, healers) -> [Repaired], healers     usage.usage(store) -> Usage
kept.Kept(folder, most_bytes): texts that a server remembers, beside the store: put, get, remove
migrations.STEPS: how catalogs of earlier versions become one of this

Written in this order: temporary file, hash, fsync, lease, rename, fsync of the folder, catalog, answer. So a kill
leaves at most garbage: temporary files and blobs that nothing refers to. Garbage is never judged by age.
"""

from freehold.store.listing import Listed
from freehold.store.store import Entry, Store

__all__ = ["Entry", "Listed", "Store"]
