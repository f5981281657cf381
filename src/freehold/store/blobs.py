"""Blobs: files named by the digest of their content, and nothing else."""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Damaged, NoRoom
from freehold.formats.atomic import disk_errors, disk_full, size_text, sync_folder
from freehold.formats.reading import regular_file, shown
from freehold.store.processes import alive, me

_CHUNK = 1 << 20
_MARGIN = 1 << 20
"""Bytes left for the catalog when a file is let in."""
_TEMPORARY = re.compile(r"(\d{1,10})-(\d{1,20})-[0-9a-f]{16}\.part")
_NOT_RESERVABLE = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


class Stamp(NamedTuple):
    """What a file must still look like for its content to be believed without reading it."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """The stamp of what `stat` says."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class Received(NamedTuple):
    """Bytes that are on the disk, whole and synced, but not yet a blob."""

    temporary: Path
    digest: Digest
    size: int


class Blobs:
    """The folders `blobs/sha256/<2 digits>/<64 digits>` and `tmp/` of a store."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "blobs" / "sha256"
        self.incoming = folder / "tmp"
        self.on_progress: Callable[[int, int], None] = lambda done, total: None
        """Told of the bytes copied and to copy, file by file."""
        self.quota = 0
        """Bytes that blobs may take in all; 0 sets no limit."""
        self.held: Callable[[], int] = lambda: 0
        """Bytes that blobs take now."""
        with disk_errors(folder):
            for made in (self.root, self.incoming):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the blob is, if it is there."""
        return self.root / digest.hex[:2] / digest.hex

    def stamp(self, digest: Digest) -> Stamp | None:
        """The file's stamp now; None when there is no file. Raises Damaged when something else has its name."""
        try:
            status = self.path(digest).lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"blob {digest.short} is not a regular file", f"Remove {self.path(digest)}")
        return Stamp.of(status)

    def admit(self, size: int) -> None:
        """Find out that there is no room before anything is written. Raises NoRoom, and DiskFull."""
        self.afford(size)
        if shutil.disk_usage(self.root).free < size + _MARGIN:
            raise disk_full(self.root, size)

    def afford(self, size: int) -> None:
        """Find out whether the quota allows so much more. Raises NoRoom."""
        if self.quota:
            held = self.held() + sum(_size(path) for path in self.incoming.iterdir())
            if held + size > self.quota:
                raise NoRoom(
                    f"the store holds {size_text(held)} of its quota of {size_text(self.quota)}, and "
                    f"{size_text(size)} would be added",
                    "Remove models ('freehold du' shows what each takes) and prune, or raise FREEHOLD_QUOTA",
                )

    @contextmanager
    def receive_file(
        self, source: Path, *, link: bool = False, share: bool = False, expected: Digest | None = None
    ) -> Iterator[Received]:
        """A copy of `source`; with `link`, the file itself under a second name where the file system can.

        `share` is `link` for a file that its owner goes on using: only if `shareable`, and no more than the right to
        write is taken from it. Raises NotFound, BadInput and DiskFull, and Damaged when the content is not `expected`.
        """
        with self._temporary() as temporary:
            linking = (link or share) and source.exists()
            if self.quota and linking:
                self.admit(source.stat().st_size)
            linked = linking and (link or shareable(source.lstat())) and _linked(source, temporary)
            received = self._seal(temporary, expected, keep=share) if linked else self._copy(source, temporary)
            _check(source, received.digest, expected)
            yield received

    @contextmanager
    def receive_stream(self, chunks: Iterable[bytes], size: int) -> Iterator[Received]:
        """`size` bytes that come in pieces. Raises BadInput when there are more or fewer, NoRoom and DiskFull."""
        with self._temporary() as temporary:
            self.afford(size)
            state, copied = sha256(), 0
            with disk_errors(self.root, size), temporary.open("xb", buffering=0) as out:
                self.reserve(out.fileno(), size)
                for chunk in chunks:
                    state.update(chunk)
                    copied += len(chunk)
                    if copied <= size:
                        _write_all(out.fileno(), chunk)
                os.fchmod(out.fileno(), 0o444)
                os.fsync(out.fileno())
            if copied != size:
                raise BadInput(f"{copied} bytes came instead of {size}", "Copy or fetch the file again")
            yield Received(temporary, Digest("sha256:" + state.hexdigest()), size)

    @contextmanager
    def receive_bytes(self, data: bytes) -> Iterator[Received]:
        """`data` as a file. Raises DiskFull."""
        with self._temporary() as temporary:
            if self.quota:
                self.admit(len(data))
            with disk_errors(self.root, len(data)), temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            yield Received(temporary, Digest.of_bytes(data), len(data))

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        pid, born = me()
        temporary = self.incoming / f"{pid}-{born}-{secrets.token_hex(8)}.part"
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _copy(self, source: Path, temporary: Path) -> Received:
        with regular_file(source) as (file, size):
            self.admit(size)
            before = Stamp.of(os.fstat(file.fileno()))
            state, copied = sha256(), 0
            with disk_errors(self.root, size), temporary.open("xb", buffering=0) as out:
                self.reserve(out.fileno(), size)
                while copied <= size and (chunk := file.read(_CHUNK)):  # one that somebody appends to has no end
                    state.update(chunk)
                    _write_all(out.fileno(), chunk)
                    copied += len(chunk)
                    self.on_progress(copied, size)
                os.fchmod(out.fileno(), 0o444)
                os.fsync(out.fileno())
            if copied != size or Stamp.of(os.fstat(file.fileno())) != before:
                raise BadInput(f"{shown(source, 400)} changed while it was read", "Try again when nothing writes to it")
        return Received(temporary, Digest("sha256:" + state.hexdigest()), size)

    def reserve(self, descriptor: int, size: int) -> None:
        """Take the room at once, so that the disk is not full when half a model is written. Raises DiskFull."""
        if size and hasattr(os, "posix_fallocate"):  # macOS has none
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno not in _NOT_RESERVABLE:
                    raise

    def _seal(self, temporary: Path, expected: Digest | None, *, keep: bool) -> Received:
        with disk_errors(self.root), temporary.open("rb", buffering=0) as file:
            before = Stamp.of(os.fstat(file.fileno()))
            digest = Digest.of_file(temporary)
            _check(temporary, digest, expected)  # before the file of somebody else is changed in any way
            os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o444 if keep else 0o444)
            os.fsync(file.fileno())
            if Stamp.of(os.fstat(file.fileno())) != before:
                raise BadInput("the file changed while it was read", "Try again when nothing writes to it")
        return Received(temporary, digest, before.size)

    def publish(self, received: Received) -> Stamp:
        """Give what was received its blob name, for good. An existing blob of that name is replaced."""
        target = self.path(received.digest)
        with disk_errors(self.root):
            if not target.parent.exists():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self.root)
            received.temporary.replace(target)
            sync_folder(target.parent)
            return Stamp.of(target.lstat())

    def files(self) -> Iterator[tuple[Path, Digest | None]]:
        """Every file under the blobs' folder, with the digest that its name spells (None when it spells none)."""
        for path in sorted(self.root.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            named = re.fullmatch(r"[0-9a-f]{64}", path.name) and path.parent == self.root / path.name[:2]
            yield path, Digest("sha256:" + path.name) if named else None

    def orphans(self) -> list[Path]:
        """Temporary files whose process is gone."""
        found = []
        for path in sorted(self.incoming.iterdir()):
            match = _TEMPORARY.fullmatch(path.name)
            if match and not alive(int(match[1]), match[2]):
                found.append(path)
        return found


def shareable(status: os.stat_result) -> bool:
    """Whether a file may be a blob and stay its owner's file too: ours, under one name, and writable by us alone."""
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    odd = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | stat.S_IWGRP | stat.S_IWOTH
    return mine and stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and not status.st_mode & odd


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # its process finished meanwhile
        return 0


def _check(source: Path, found: Digest, expected: Digest | None) -> None:
    if expected not in (None, found):
        raise Damaged(
            f"{shown(source, 400)} is not what its name says: its content is {found.short}", "Fetch the model again"
        )


def _linked(source: Path, temporary: Path) -> bool:
    """Whether `source` now has a second name. A file with more names still may be written to under one of them."""
    status = source.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        return False
    try:
        os.link(source, temporary, follow_symlinks=False)
    except OSError:
        return False
    return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
