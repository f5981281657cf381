"""Unfinished downloads: what came so far stays in the store's folder, so that a killed pull goes on where it was.

`partial/<64 digits>.part` is the file, at its full length from the start, so that its space is reserved;
`<64 digits>.journal` says how far each piece of it has come. The lock on the file is the lease: it ends with its
process, however that ends. Writes go to the file first and to the journal after. The journal keeps two positions of
each piece: what was written, which survives a kill, and what was synced, which survives a power cut too.
"""

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Conflict
from freehold.core.system import write_through
from freehold.formats.atomic import disk_errors
from freehold.store.blobs import Blobs

PARTIAL = "partial"
"""The folder in the store's."""
PIECE = 64 << 20
"""Bytes of a piece: what one connection fetches at a time."""
_HEAD = 512
_ENTRY = struct.Struct("<QQ")
_STEM = re.compile(r"[0-9a-f]{64}")


class Piece(NamedTuple):
    """A range of the file that one connection fetches."""

    number: int
    begin: int
    end: int


class _Head(msgspec.Struct, frozen=True):
    size: int
    piece: int
    boot: str


class Partial:
    """One unfinished file, held by this process alone. Threads write to it through `Writer`s of their own.

    `key` is the digest that the content shall have or, where no one says it, of what identifies it. Raises Conflict
    when another process fetches the same, and DiskFull.
    """

    def __init__(self, folder: Path, key: Digest, size: int, piece: int = PIECE) -> None:
        self.path, self._journal = folder / f"{key.hex}.part", folder / f"{key.hex}.journal"
        self.size = size
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _held(self.path)
            self._done = self._resume() or self._begin(piece)

    def _resume(self) -> "list[tuple[Piece, int]]":
        """The pieces and how far they have come; empty when there is nothing to build upon."""
        try:
            data = self._journal.read_bytes()
            head = msgspec.json.decode(data[:_HEAD].rstrip(b"\0"), type=_Head)
            whole = os.fstat(self._lock).st_size == head.size == self.size
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return []
        pieces = _pieces(head.size, head.piece) if whole and head.piece > 0 else []
        if not pieces or len(data) != _HEAD + len(pieces) * _ENTRY.size:
            return []
        rows = [*_ENTRY.iter_unpack(data[_HEAD:])]
        column = 0 if head.boot == _boot() else 1
        if column:  # since the last start of the machine only what was synced counts
            self._write_journal(head.piece, [(row[1], row[1]) for row in rows])
        return [(p, min(row[column], p.end - p.begin)) for p, row in zip(pieces, rows, strict=True)]

    def _begin(self, piece: int) -> "list[tuple[Piece, int]]":
        pieces = _pieces(self.size, piece)
        self._journal.unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        self._write_journal(piece, [(0, 0)] * len(pieces))
        return [(piece, 0) for piece in pieces]

    def _write_journal(self, piece: int, rows: list[tuple[int, int]]) -> None:
        head = msgspec.json.encode(_Head(self.size, piece, _boot())).ljust(_HEAD, b"\0")
        temporary = self._journal.with_suffix(".journal.tmp")
        temporary.write_bytes(head + b"".join(_ENTRY.pack(*row) for row in rows))
        temporary.replace(self._journal)

    @property
    def done(self) -> int:
        """Bytes that came in earlier runs."""
        return sum(done for _, done in self._done)

    @property
    def missing(self) -> list[tuple[Piece, int]]:
        """Pieces that are not complete, and the bytes of each that are there."""
        return [(piece, done) for piece, done in self._done if done < piece.end - piece.begin]

    @property
    def unreserved(self) -> int:
        """Bytes of the disk that it will still take."""
        return max(0, self.size - os.fstat(self._lock).st_blocks * 512)

    def reserve(self, blobs: Blobs) -> None:
        """Take the space on the disk before anything is fetched. Raises DiskFull."""
        with disk_errors(self.path.parent, self.size):
            if os.fstat(self._lock).st_size != self.size:
                blobs.reserve(self._lock, self.size)
                os.ftruncate(self._lock, self.size)

    def writer(self, piece: Piece, done: int) -> "Writer":
        """What one thread writes a piece with, from where it stands."""
        return Writer(self.path, self._journal, piece, done)

    def discard(self) -> None:
        """Remove it: its content is in the store now, or wrong."""
        self._journal.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others take it up."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Writer:
    """Writes one piece of a partial file in order, and keeps its journal."""

    def __init__(self, path: Path, journal: Path, piece: Piece, done: int) -> None:
        self.piece, self.done = piece, done
        self._synced = done
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._journal = os.open(journal, os.O_WRONLY | os.O_CLOEXEC)

    @property
    def left(self) -> int:
        """Bytes that are missing."""
        return self.piece.end - self.piece.begin - self.done

    def write(self, data: bytes) -> None:
        """The next bytes. Raises DiskFull."""
        with disk_errors(self._path.parent):
            view = memoryview(data)
            while view:
                count = os.pwrite(self._file, view, self.piece.begin + self.done)
                view, self.done = view[count:], self.done + count
            self._note()

    def _note(self) -> None:
        os.pwrite(self._journal, _ENTRY.pack(self.done, self._synced), _HEAD + self.piece.number * _ENTRY.size)

    def restart(self) -> None:
        """Forget what was written."""
        self.done = self._synced = 0
        self._note()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with disk_errors(self._path.parent):
                write_through(self._file)
                self._synced = self.done
                self._note()
        finally:
            os.close(self._file)
            os.close(self._journal)


def _pieces(size: int, piece: int) -> list[Piece]:
    return [Piece(n, begin, min(begin + piece, size)) for n, begin in enumerate(range(0, size, piece))]


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


def _held(path: Path) -> int:
    """A descriptor of the file with the lock on it. Raises Conflict when somebody else has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not _locked(descriptor):
            os.close(descriptor)
            raise Conflict("another process is fetching the same file", "Wait until it is done")
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.lstat().st_ino:
                return descriptor
        os.close(descriptor)  # removed by prune between opening and locking


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Leftover(NamedTuple):
    """An unfinished download that no running process holds."""

    paths: tuple[Path, ...]
    size: int
    """Bytes that it takes on the disk."""
    stale: bool
    """Whether no pull can go on with it: its content is in the store, or its state is lost."""


def sweep(folder: Path, blobs: Blobs, *, unfinished: bool = False, dry_run: bool = False) -> list[Leftover]:
    """Remove what no pull can go on with; with `unfinished`, everything that no process holds. Age does not count."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        groups.setdefault(path.name.partition(".")[0], []).append(path)
    swept = (_sweep(blobs, stem, paths, unfinished, dry_run) for stem, paths in groups.items())
    return [leftover for leftover in swept if leftover]


def _sweep(blobs: Blobs, stem: str, paths: list[Path], unfinished: bool, dry_run: bool) -> Leftover | None:
    names = {path.name for path in paths}
    ours = bool(_STEM.fullmatch(stem))
    stale = not {f"{stem}.part", f"{stem}.journal"} <= names
    if ours and not stale:
        stale = blobs.stamp(Digest(f"sha256:{stem}")) is not None
    leftover = Leftover(tuple(paths), sum(_taken(path) for path in paths), stale)
    if not ours or not (stale or unfinished):
        return None
    with _free(paths[0].with_name(f"{stem}.part")) as free:
        if not free:
            return None
        for path in () if dry_run else paths:
            path.unlink(missing_ok=True)
    return leftover


@contextmanager
def _free(path: Path) -> Iterator[bool]:
    """Whether nobody holds the file; while the block runs, nobody can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _taken(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.lstat().st_blocks * 512
    return 0
