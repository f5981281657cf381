"""The store: models by name, their files by digest."""

import difflib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Busy, Damaged, DiskFull, FreeholdError, NotFound, UnknownModel
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.formats.atomic import disk_errors
from freehold.store.blobs import Blobs, Received, Stamp
from freehold.store.listing import CATALOG, Listed
from freehold.store.rooms import ROOMS, room
from freehold.store.runs import Runs

if TYPE_CHECKING:
    from freehold.store.catalog import Catalog

_holder: ContextVar[str] = ContextVar("freehold_lease_holder", default="")


class Entry(msgspec.Struct, frozen=True):
    """A model in the catalog. `modified` is in seconds since 1970."""

    name: Name
    digest: Digest
    manifest: Manifest
    modified: float


class Store:
    """Blobs, manifests and the catalog in one folder. Safe with several processes and threads, and when killed.

    What is added counts as used until its `lease` block ends; outside of one, until a manifest or step refers to it,
    the store is closed or the process ends. `prune` removes what nothing uses.
    """

    def __init__(self, folder: Path, catalog: "Catalog") -> None:
        self.folder, self.catalog = folder, catalog
        self.blobs = Blobs(folder)
        self.runs = Runs(self)
        self._own_holder = secrets.token_hex(8)

    @classmethod
    def open(cls, home: Path, *, quota: int = 0) -> Self:
        """The store in the folder `home` (`settings.store`), made where there is none. Raises BadInput, Damaged.

        With a `quota` (`settings.quota`) what would make its blobs take more bytes is refused with NoRoom.
        """
        from freehold.store.catalog import Catalog

        with disk_errors(home):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = cls(home, Catalog(home / CATALOG))
        store.blobs.quota, store.blobs.held = quota, store.catalog.held
        return store

    @property
    def tools(self) -> Path:
        """Where other programs' archives may lie: see `convert.borrowed`."""
        return self.folder / "tools"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up what this object holds in use."""
        self._release(self._own_holder)

    @contextmanager
    def lease(self, *digests: Digest) -> Iterator[None]:
        """Keep these blobs (for a manifest: its parts too), and what is added inside the block, from being pruned.

        Ends with the block, or with the process however it ends.
        """
        holder = secrets.token_hex(8)
        self.catalog.lease(holder, digests)
        token = _holder.set(holder)
        try:
            yield
        finally:
            # An asynchronous generator may be closed in another context than it was begun in, where nothing was set.
            with suppress(ValueError):
                _holder.reset(token)
            self._release(holder)

    def _release(self, holder: str) -> None:
        # A lease that cannot be ended now ends with the process; the error that counts is the block's own.
        with suppress(FreeholdError):
            self.catalog.release(holder)

    def settle(self, digests: Iterable[Digest]) -> None:
        """These blobs are referred to now: what this object itself held on them may end."""
        with suppress(FreeholdError):
            self.catalog.release(self._own_holder, digests)

    def room(self) -> AbstractContextManager[Path]:
        """A folder on the store's disk for files that are being made; gone after the block. Raises DiskFull."""
        return room(self.folder / ROOMS)

    def add_file(
        self, path: Path, *, move: bool = False, share: bool = False, expected: Digest | None = None
    ) -> tuple[Digest, int]:
        """Keep a file's content: its digest and size. With `move` the file is gone afterwards.

        With `share` the file is not copied but becomes a hard link, where the file system and `shareable` allow it.
        Raises NotFound, BadInput and DiskFull, and Damaged if the content is not `expected`; the store is then as it
        was.
        """
        held = self._kept(path) if share and path.exists() else None
        if held is not None and expected in (None, held):
            return held, path.stat().st_size
        with self.blobs.receive_file(path, link=move, share=share, expected=expected) as received:
            self.keep(received)
        if move:
            with disk_errors(path):
                path.unlink(missing_ok=True)
        return received.digest, received.size

    def add_stream(self, chunks: Iterable[bytes], digest: Digest, size: int) -> None:
        """Keep what `chunks` give, if it is what `digest` and `size` say. Raises BadInput, Damaged and DiskFull."""
        with self.blobs.receive_stream(chunks, size) as received:
            if received.digest != digest:
                raise Damaged(f"{received.digest.short} came instead of {digest.short}", "Copy or fetch it again")
            self.keep(received)

    def add_bytes(self, data: bytes) -> Digest:
        """Keep `data`. Raises DiskFull."""
        with self.blobs.receive_bytes(data) as received:
            self.keep(received)
        return received.digest

    def _kept(self, path: Path) -> Digest | None:
        """The blob that this file is already, now in use."""
        held = self.holds(path)
        if held is None:
            return None
        self.catalog.lease(_holder.get() or self._own_holder, [held])
        return self.holds(path)

    def keep(self, received: Received) -> None:
        """Make a blob of bytes whose digest is known to be right. Raises DiskFull."""
        # The lease comes before the look: a prune between the two would remove what was seen.
        self.catalog.lease(_holder.get() or self._own_holder, [received.digest])
        present = self.blobs.stamp(received.digest)
        if present is None or present != self.catalog.stamp(received.digest):
            self.catalog.record(received.digest, self.blobs.publish(received))

    def holds(self, path: Path) -> Digest | None:
        """The blob that this very file is, under another name; None when it is none, or changed since it was read."""
        stamp = Stamp.of(path.stat())
        known = self.catalog.stamped(stamp)
        return next((digest for digest in known if self.blobs.stamp(digest) == stamp), None)

    def path(self, digest: Digest) -> Path:
        """The file that holds this content. It is read again if it changed since it was last seen whole.

        Raises NotFound, and Damaged when the content is not what the digest says.
        """
        present, known = self.blobs.stamp(digest), self.catalog.stamp(digest)
        if present is None and known is None:
            raise NotFound(f"no blob {digest.short} in the store", "Pull or make the model again")
        if present is None:
            raise Damaged(f"blob {digest.short} is missing from the store", "Pull or make the model again")
        if present != known:
            self.verify(digest)
        return self.blobs.path(digest)

    def verify(self, digest: Digest, *, read: Callable[[Path], Iterable[bytes]] | None = None) -> None:
        """Read the whole blob, with `read` if it is to be read slowly.

        Raises NotFound, and Damaged when the content is not what the digest says; it is then not believed any more.
        """
        path = self.blobs.path(digest)
        try:
            before = self.blobs.stamp(digest)  # nobody reads a pipe or a device to its end
            found = Digest.of_chunks(read(path)) if read else Digest.of_file(path)
            after = Stamp.of(path.lstat())
        except FileNotFoundError as error:
            raise NotFound(f"no blob {digest.short} in the store", "Pull or make the model again") from error
        if found != digest or before != after:
            with suppress(DiskFull, Busy):
                self.catalog.distrust(digest)
            raise Damaged(
                f"blob {digest.short} has changed: its content is {found.short}", "Pull or make the model again"
            )
        with suppress(DiskFull, Busy):
            self.catalog.record(digest, after, checked=time.time())

    def restore(self, digest: Digest, path: Path) -> None:
        """Put a copy of `path` in the place of a blob that is damaged or missing.

        Raises Damaged when its content is another, and NotFound, BadInput, NoRoom.
        """
        with self.blobs.receive_file(path, expected=digest) as received:
            self.catalog.lease(_holder.get() or self._own_holder, [digest])
            self.catalog.record(digest, self.blobs.publish(received), checked=time.time())

    def put(self, name: Name, manifest: Manifest) -> Digest:
        """Let `name` point to `manifest`, of parts and evidence in the store. Raises NotFound, Damaged, DiskFull."""
        needed = (*(part.digest for part in manifest.parts), *manifest.evidence)
        with self.lease(*needed):
            for digest in needed:
                self.path(digest)
            digest = self.add_bytes(manifest.encode())
            self.catalog.bind(name, digest, manifest)
        self.settle((*needed, digest))
        return digest

    def get(self, name: Name) -> Manifest:
        """The model of this name. Raises UnknownModel, and Damaged when its manifest cannot be read."""
        return self.manifest(self.resolve(name))

    def resolve(self, name: Name) -> Digest:
        """The digest of the manifest that `name` points to. Raises UnknownModel."""
        for bound in self.catalog.bound(name):
            return bound.digest
        raise UnknownModel(f"no model named {str(name)!r}", self._suggestion(name))

    def _suggestion(self, name: Name) -> str:
        known = [str(bound.name) for bound in self.catalog.bound()]
        if not known:
            return "The store is empty: 'freehold pull' or 'freehold make' fills it"
        near = difflib.get_close_matches(str(name), known, 3, 0.5)
        return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known[:10])}"

    def manifest(self, digest: Digest) -> Manifest:
        """The manifest of this digest. Raises NotFound and Damaged."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError as error:  # pruned since it was looked at
            raise NotFound(f"no blob {digest.short} in the store", "Pull or make the model again") from error
        if Digest.of_bytes(data) != digest:
            raise Damaged(f"manifest {digest.short} has changed", "Pull or make the model again")
        return Manifest.decode(data)

    def list(self) -> "list[Entry]":
        """All models by name. Raises Damaged naming the model whose manifest cannot be read."""
        found = []
        for name, digest, modified in self.catalog.bound():
            manifest = self._listed(name, digest)
            if manifest is not None:
                found.append(Entry(name, digest, manifest, modified))
        return found

    def listing(self) -> Sequence[Listed]:
        """What `list` tells of all models, out of the catalog. Raises Damaged as `list` does."""
        found = self.catalog.listing()
        while found is None:  # named by an earlier version
            self.catalog.describe((each.digest, each.manifest) for each in self.list())
            found = self.catalog.listing()
        return found

    def _listed(self, name: Name, digest: Digest) -> Manifest | None:
        """The manifest; None when the name went away meanwhile."""
        try:
            return self.manifest(digest)
        except (NotFound, Damaged) as error:
            if all(bound.digest != digest for bound in self.catalog.bound(name)):
                return None
            raise Damaged(
                f"model {name}: {error.message}", f"Pull or make it again, or 'freehold rm {name}'"
            ) from error

    def remove(self, name: Name) -> None:
        """Forget a name. Its files stay until prune finds that nothing uses them. Raises UnknownModel."""
        if not self.catalog.unbind(name):
            raise UnknownModel(f"no model named {str(name)!r}", self._suggestion(name))
