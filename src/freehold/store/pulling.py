"""Pulling: from what somebody typed to a model in the store, the same way for every source."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import (
    BadInput,
    BadModelFile,
    BadName,
    Conflict,
    DiskFull,
    FreeholdError,
    SourceFailed,
    Unsupported,
)
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.core.reference import Reference
from freehold.formats import projector
from freehold.formats.bundle.reading import Bundle
from freehold.formats.reading import shown
from freehold.store import bundles, importing, projectors, splits
from freehold.store.beside import translated
from freehold.store.check import prune
from freehold.store.fetching import Progress, Remote, fetch
from freehold.store.folders import inspect
from freehold.store.outbound import Outbound
from freehold.store.sources import Offer, source
from freehold.store.store import Store


def look(reference: Reference, outbound: Outbound) -> Offer:
    """What pulling this would take. Raises what the source raises."""
    return source(reference).look(reference, outbound)


def title(offer: Offer, wanted: str = "") -> Name:
    """The name for the model: the one wanted, else the source's. Raises BadName."""
    if wanted:
        return Name.parse(wanted)
    try:
        return Name.parse(offer.title)
    except BadName as error:
        raise BadName(f"{shown(offer.title)!r} gives no name for the model", "Choose one: --as NAME") from error


def seeing(offer: Offer, path: Path | None) -> Offer:
    """The offer with this file as the model's projector, or with none. Raises BadInput, BadModelFile, Unsupported."""
    folder = offer.local is not None and (offer.local.bundle or offer.local.path.is_dir())
    if path is not None and (folder or not (offer.local or offer.roles)):
        raise BadInput("a projector belongs to a model in GGUF files", "Leave out --mmproj")
    if path is not None:
        projector.read(path)
    kept = [(file, role) for file, role in zip(offer.files, offer.roles, strict=False) if role != "projector"]
    if offer.roles:
        files, roles = tuple(file for file, _ in kept), tuple(role for _, role in kept)
        offer = msgspec.structs.replace(offer, files=files, roles=roles)
    how = "without a projector" if path is None else f"with the projector {shown(path, 400)}"
    return msgspec.structs.replace(offer, projector=path, choice=f"{offer.choice}, {how}")


def take(
    store: Store,
    outbound: Outbound,
    offer: Offer,
    name: Name,
    *,
    accept_new: bool = False,
    on_progress: Progress = lambda label, done, size: None,
) -> Manifest:
    """Bring the offer into the store and let `name` point to it.

    A failure of the network keeps what came, for the next try; any other leaves nothing. Raises Conflict when the
    place has another owner than at the last pull, what fetching raises, BadModelFile, DiskFull.
    """
    if offer.local is not None:
        return _local(store, offer, name, on_progress)
    _check_owner(store, offer, accept_new)
    try:
        with store.lease(*(file.digest for file in offer.files if file.digest)):
            digests = fetch(store, outbound, offer.files, on_progress)
            manifest = _assembled(store, offer, name, digests)
            store.put(name, manifest)
    except (BadModelFile, DiskFull, SourceFailed):
        with suppress(FreeholdError):
            prune(store)
        raise
    _remember_owner(store, offer)
    return manifest


def _local(store: Store, offer: Offer, name: Name, on_progress: Progress) -> Manifest:
    local = offer.local
    if local is None:
        raise SourceFailed(f"{offer.source} is not on this machine", "Pull it from where it is")
    store.blobs.on_progress = lambda done, total: on_progress("copying", done, total)
    if local.bundle:
        with Bundle.open(local.path) as bundle:
            bundles.bring(store, bundle, name, on_progress=lambda done, total: on_progress("checking", done, total))
        return store.get(name)
    if local.path.is_dir():
        return importing.import_folder(store, local.path, name)
    return importing.import_gguf(store, local.path, name, projector=offer.projector)


def _assembled(store: Store, offer: Offer, name: Name, digests: list[Digest]) -> Manifest:
    """The manifest of files that are in the store now, checked as what they are said to be."""
    make = _from_gguf if offer.roles else _from_folder
    manifest = make(store, offer, name, digests)
    return msgspec.structs.replace(
        manifest, lineage=Lineage(source=offer.source), licence=offer.licence or manifest.licence
    )


def _from_gguf(store: Store, offer: Offer, name: Name, digests: list[Digest]) -> Manifest:
    rows = [*zip(offer.files, offer.roles, digests, strict=True)]
    main = [(file, digest) for file, role, digest in rows if role == "gguf"]
    blobs = [store.path(digest) for _, digest in main]
    details = splits.check(blobs, [Path(file.filename) for file, _ in main])
    names = importing.gguf_names([file.filename for file, _ in main], name)
    parts = [Part("gguf", digest, file.size, label) for (file, digest), label in zip(main, names, strict=True)]
    beside = [
        _projector(store, file, digest, names) if role == "projector" else Part(role, digest, file.size, file.filename)
        for file, role, digest in rows
        if role != "gguf"
    ]
    if offer.projector is not None:
        beside.append(projectors.keep(store, offer.projector, names))
    made = translated(store, beside, blobs[0])
    return Manifest(parts=(*parts, *beside, *made), details=details, licence=importing.gguf_licence(blobs[0]))


def _projector(store: Store, file: Remote, digest: Digest, taken: Sequence[str]) -> Part:
    """A projector that was fetched; one that only hears is of no use here, but the model's. Raises BadModelFile."""
    try:
        projector.read(store.path(digest), label=Path(file.filename))
    except Unsupported:
        return Part("other", digest, file.size, file.filename)
    return Part("projector", digest, file.size, projectors.name_for(file.filename, taken))


def _from_folder(store: Store, offer: Offer, name: Name, digests: list[Digest]) -> Manifest:
    """Looked at as a folder, by the same rules as one that somebody has on the disk."""
    stored = {file.filename: (digest, file.size) for file, digest in zip(offer.files, digests, strict=True)}
    with store.room() as room:
        folder = room / name.model
        folder.mkdir()
        for filename, (digest, _) in stored.items():
            importing.link_or_copy(store.path(digest), folder / filename)
        inspected = inspect(folder)
    parts = (Part(role, *stored[filename], filename) for role, filename, _ in inspected.members)
    return Manifest(parts=tuple(parts), details=inspected.details)


def _check_owner(store: Store, offer: Offer, accept_new: bool) -> None:
    """Raises Conflict when a name that was given up on the Hub has been taken by somebody else."""
    known = store.runs.recall_step(_key(offer))
    if offer.owner and known and known != offer.owner.encode() and not accept_new:
        raise Conflict(
            f"{offer.source} is not the repository that was pulled before: it was made anew, perhaps by somebody else",
            "Look at it there; to take it all the same: --accept-new",
        )


def _remember_owner(store: Store, offer: Offer) -> None:
    if offer.owner:
        store.runs.remember_step(_key(offer), offer.owner.encode())


def _key(offer: Offer) -> str:
    return f"owner:{offer.place}"
