"""The catalog: names, leases, finished steps, and what each blob's file looked like when its content was last checked.

SQLite in rollback-journal mode with synchronous=EXTRA: SQLite before 3.51.3 can corrupt a database in WAL mode.
Imported by Store.open, since SQLAlchemy takes a fifth of a second.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Select, create_engine, delete, event, func, insert, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Busy, Damaged, FreeholdError, Unsupported
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.formats.atomic import disk_full
from freehold.store import migrations
from freehold.store.blobs import Stamp
from freehold.store.listing import QUERY, Listed
from freehold.store.processes import alive, me
from freehold.store.tables import blobs, leases, manifests, models, names, scrubs, step_digests, steps

WAIT = 60
"""Seconds to wait while another process writes."""


class Bound(NamedTuple):
    """A name in the catalog: the manifest it points to, and since when (seconds since 1970)."""

    name: Name
    digest: Digest
    modified: float


class Catalog:
    """The store's database. Every method is one transaction; several processes may use it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        address = URL.create("sqlite", database=str(path))  # a path may hold what means something in a URL
        options = {"timeout": WAIT, "check_same_thread": False}
        self._engine = create_engine(address, poolclass=NullPool, connect_args=options)
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        with self.reading() as connection:
            version = migrations.version(connection)
        if version > migrations.SCHEMA:
            raise Unsupported(f"{path} was written by a newer Freehold", "Upgrade Freehold")
        if version < migrations.SCHEMA:
            self._upgrade()

    def _upgrade(self) -> None:
        left = True
        while left:
            with self.writing() as connection:
                left = migrations.upgrade(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state. Raises Busy and Damaged."""
        with self._errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that nobody else writes beside, on the disk when the block ends well. Raises DiskFull too."""
        with self._errors(), self._engine.connect() as connection:
            with connection.execution_options(writes=True).begin():
                yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise self._translated(error) from error

    def _translated(self, error: DatabaseError) -> FreeholdError:
        kind = getattr(error.orig, "sqlite_errorname", "")
        if kind.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return disk_full(self.path)
        if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Busy("another process holds the store", "Try again when it is done", retry_after=5)
        if kind.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
            return BadInput(f"cannot write {self.path}: {error.orig}", "Check the permissions of the folder")
        return Damaged(f"the catalog {self.path} cannot be used: {error.orig}", "Restore it from a copy")

    def stamp(self, digest: Digest) -> Stamp | None:
        """What the blob's file looked like when it was last checked."""
        query = select(blobs.c.size, blobs.c.mtime_ns, blobs.c.inode).where(blobs.c.digest == str(digest))
        with self.reading() as connection:
            row = connection.execute(query).first()
        return Stamp(*row) if row else None

    def stamped(self, stamp: Stamp) -> list[Digest]:
        """The blobs whose files looked like this when they were last checked."""
        query = select(blobs.c.digest).where(
            blobs.c.inode == stamp.inode, blobs.c.size == stamp.size, blobs.c.mtime_ns == stamp.mtime_ns
        )
        with self.reading() as connection:
            return [Digest(text) for text in connection.execute(query).scalars()]

    def record(self, digest: Digest, stamp: Stamp, *, checked: float | None = None) -> None:
        """The blob's content is right, and its file looks like this; `checked` is when it was read from end to end."""
        with self.writing() as connection:
            connection.execute(delete(blobs).where(blobs.c.digest == str(digest)))
            connection.execute(insert(blobs).values(digest=str(digest), **stamp._asdict()))
            if checked is not None:
                connection.execute(insert(scrubs).prefix_with("OR REPLACE").values(digest=str(digest), checked=checked))

    def distrust(self, digest: Digest) -> None:
        """The blob's content was found wrong: let every use find that out again, and the scrub go on to the next."""
        with self.writing() as connection:
            connection.execute(delete(blobs).where(blobs.c.digest == str(digest)))

    def due(self, before: float) -> Digest | None:
        """The blob that was not read for the longest time, if that was before `before`."""
        query = (
            select(blobs.c.digest)
            .select_from(blobs.outerjoin(scrubs, blobs.c.digest == scrubs.c.digest))
            .where(func.coalesce(scrubs.c.checked, 0.0) < before)
            .order_by(func.coalesce(scrubs.c.checked, 0.0))
            .limit(1)
        )
        with self.reading() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else Digest(found)

    def held(self) -> int:
        """Bytes of all blobs."""
        with self.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(blobs.c.size), 0))).scalar_one())

    def lease(self, holder: str, digests: Iterable[Digest]) -> None:
        """Protect blobs from prune while this process lives and the holder is not released."""
        pid, born = me()
        rows = [{"holder": holder, "digest": str(d), "pid": pid, "birth": born} for d in dict.fromkeys(digests)]
        if rows:
            with self.writing() as connection:
                connection.execute(insert(leases).prefix_with("OR REPLACE"), rows)

    def release(self, holder: str, digests: Iterable[Digest] | None = None) -> None:
        """End a holder's leases, or those on some digests."""
        query = delete(leases).where(leases.c.holder == holder)
        if digests is not None:
            query = query.where(leases.c.digest.in_([str(d) for d in digests]))
        with self.writing() as connection:
            connection.execute(query)

    def bind(self, name: Name, digest: Digest, manifest: Manifest) -> None:
        """Let a name point to a manifest."""
        with self.writing() as connection:
            _describe(connection, [(digest, manifest)])
            connection.execute(insert(manifests).prefix_with("OR IGNORE").values(digest=str(digest)))
            connection.execute(delete(names).where(names.c.name == str(name)))
            connection.execute(insert(names).values(name=str(name), digest=str(digest), modified=time.time()))

    def unbind(self, name: Name) -> bool:
        """Forget a name; whether it was there."""
        with self.writing() as connection:
            return connection.execute(delete(names).where(names.c.name == str(name))).rowcount > 0

    def bound(self, name: Name | None = None) -> list[Bound]:
        """All names in order, or the one asked for."""
        query = select(names.c.name, names.c.digest, names.c.modified).order_by(names.c.name)
        if name is not None:
            query = query.where(names.c.name == str(name))
        with self.reading() as connection:
            return [Bound(Name.parse(n), Digest.parse(d), m) for n, d, m in connection.execute(query)]

    def describe(self, known: Iterable[tuple[Digest, Manifest]]) -> None:
        """Keep what listing shows of manifests."""
        with self.writing() as connection:
            _describe(connection, known)

    def listing(self) -> list[Listed] | None:
        """All names in order, with what is kept of their manifests; None when one of these was never described."""
        with self.reading() as connection:
            return Listed.of_rows(connection.exec_driver_sql(QUERY))

    def remember(self, key: str, result: bytes, digests: Iterable[Digest]) -> None:
        """Keep a step's result and the blobs it refers to, in place of an earlier one."""
        with self.writing() as connection:
            _forget(connection, key)
            connection.execute(insert(steps).values(key=key, result=result))
            rows = [{"key": key, "digest": str(d)} for d in dict.fromkeys(digests)]
            if rows:
                connection.execute(insert(step_digests), rows)

    def recall(self, key: str) -> tuple[bytes, list[Digest]] | None:
        """A step's result and what it refers to; None when it is not known."""
        with self.reading() as connection:
            result = connection.execute(select(steps.c.result).where(steps.c.key == key)).scalar_one_or_none()
            query = select(step_digests.c.digest).where(step_digests.c.key == key)
            return None if result is None else (result, [Digest(d) for d in connection.execute(query).scalars()])

    def forget(self, key: str) -> bool:
        """Drop a step; whether it was there."""
        with self.writing() as connection:
            return _forget(connection, key)

    def step_references(self) -> list[tuple[str, Digest]]:
        """Which step refers to which blob."""
        with self.reading() as connection:
            query = select(step_digests.c.key, step_digests.c.digest).order_by(step_digests.c.key)
            return [(key, Digest(digest)) for key, digest in connection.execute(query)]

    def drop_unused(self, connection: Connection, removed: Iterable[Digest]) -> None:
        """Forget blobs that were removed, and the leases of processes that are gone."""
        for digest in removed:
            connection.execute(delete(blobs).where(blobs.c.digest == str(digest)))
            connection.execute(delete(manifests).where(manifests.c.digest == str(digest)))
            connection.execute(delete(models).where(models.c.digest == str(digest)))
            connection.execute(delete(scrubs).where(scrubs.c.digest == str(digest)))
        for pid, born in connection.execute(select(leases.c.pid, leases.c.birth).distinct()).all():
            if not alive(pid, born):
                connection.execute(delete(leases).where(leases.c.pid == pid, leases.c.birth == born))

    def integrity(self) -> str:
        """`ok`, or what SQLite finds wrong."""
        with self.reading() as connection:
            return str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one())


def _describe(connection: Connection, known: Iterable[tuple[Digest, Manifest]]) -> None:
    rows = [
        {
            "digest": str(digest),
            "size": manifest.size,
            "licence": manifest.licence,
            **{field: getattr(manifest.details, field) for field in manifest.details.__struct_fields__},
        }
        for digest, manifest in known
    ]
    if rows:
        connection.execute(insert(models).prefix_with("OR REPLACE"), rows)


def roots(connection: Connection) -> tuple[set[Digest], set[Digest], set[Digest]]:
    """What everything in use hangs on: manifests that names point to; blobs that running processes or steps hold; and
    which digests are manifests at all."""
    named = _digests(connection, select(names.c.digest))
    rows = connection.execute(select(leases.c.digest, leases.c.pid, leases.c.birth)).all()
    running = {holder for holder in {(pid, born) for _, pid, born in rows} if alive(*holder)}
    held = {Digest(digest) for digest, pid, born in rows if (pid, born) in running}
    return named, held | _digests(connection, select(step_digests.c.digest)), _digests(connection, select(manifests))


def _digests(connection: Connection, query: Select[Any]) -> set[Digest]:
    return {Digest(text) for text in connection.execute(query).scalars()}


def _forget(connection: Connection, key: str) -> bool:
    connection.execute(delete(step_digests).where(step_digests.c.key == key))
    return connection.execute(delete(steps).where(steps.c.key == key)).rowcount > 0


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event says BEGIN, Python's sqlite3 must not
    # EXTRA is FULL and a sync of the folder: with FULL alone a power cut can take back the last commit.
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA journal_mode = DELETE")


def _begin(connection: Connection) -> None:
    # A transaction that starts by reading and then writes cannot wait for its turn: SQLite refuses it at once.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
