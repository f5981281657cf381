"""The one downloader: files from web addresses into partial files, several pieces at a time, then checked and kept.

Pieces of all files wait in one queue, and a few threads fetch them. What arrives is written at once, so memory stays
small; a piece that fails goes on where it stopped. Nothing gets a name in the store before its length and digest are
right.
"""

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Damaged, DiskFull, FreeholdError, NotFound, SourceFailed
from freehold.formats.atomic import disk_errors, disk_full
from freehold.formats.reading import shown
from freehold.store.blobs import Received
from freehold.store.outbound import Outbound, Passing, host, stalled
from freehold.store.partials import PARTIAL, PIECE, Partial, Piece, Writer
from freehold.store.store import Store

if TYPE_CHECKING:
    from httpx2 import Response

CONNECTIONS = 4
_WORTH = 64 << 10
"""Bytes after which a connection counts as one that worked, and failures are counted anew."""
_SLOWEST = 64
"""Bytes per second below which a server counts as stalled."""
_HASHED = 1 << 20
Progress = Callable[[str, int, int], None]


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A file to fetch. What the source says about it is checked: length, digest, git's name for the content."""

    filename: str
    url: str
    size: int
    digest: Digest | None = None
    git: str = ""
    """Git's SHA-1 of the content as a blob; the Hub says it of small files."""
    etag: str = ""
    """Set where nothing else says that the file is still the same."""
    headers: Mapping[str, str] = {}
    whole: bool = False
    """Whether the server sends files in one piece only."""

    @property
    def key(self) -> Digest:
        """Under which its unfinished state is kept."""
        return self.digest or Digest.of_json([self.url, self.size, self.git, self.etag])


def fetch(
    store: Store,
    outbound: Outbound,
    files: Sequence[Remote],
    on_progress: Progress = lambda name, done, size: None,
    *,
    connections: int = CONNECTIONS,
    piece: int = PIECE,
) -> list[Digest]:
    """The digests of these files, now in the store; call it in a lease. What is there already is not fetched.

    A failure of the network keeps what came for the next time; wrong content and a full disk leave nothing. Raises
    Conflict, NoRoom, DiskFull, Forbidden, NotFound, RateLimited, Timeout, SourceFailed.
    """
    found = {file.key: file.digest for file in files if file.digest and _whole(store, file.digest)}
    absent = list({file.key: file for file in files if file.key not in found}.values())
    store.blobs.afford(sum(file.size for file in absent))
    with ExitStack() as stack:
        parts: dict[Digest, Partial] = {}
        try:
            for file in absent:
                parts[file.key] = Partial(
                    store.folder / PARTIAL, file.key, file.size, file.size or 1 if file.whole else piece
                )
                stack.callback(parts[file.key].close)
            _reserve(store, parts.values())
            _Fetching(outbound, [(file, parts[file.key]) for file in absent], on_progress).run(connections)
            digests = found | {file.key: _keep(store, file, parts[file.key]) for file in absent}
        except DiskFull:
            for part in parts.values():
                part.discard()
            raise
    return [_present(store, digests[file.key]) for file in files]


def _whole(store: Store, digest: Digest) -> bool:
    """Whether the store has the content; what is damaged is fetched again."""
    try:
        store.path(digest)
    except (NotFound, Damaged):
        return False
    return True


def _present(store: Store, digest: Digest | None) -> Digest:
    if digest is None:
        raise SourceFailed("a file was not fetched", "Run the same command again")
    store.path(digest)
    return digest


def _reserve(store: Store, parts: Iterable[Partial]) -> None:
    """Take all the space that will be needed, before the first byte is fetched. Raises DiskFull."""
    status = os.statvfs(store.folder)
    wanted = sum(part.unreserved for part in parts)
    if wanted > status.f_bavail * status.f_frsize:
        raise disk_full(store.folder, wanted)
    for part in parts:
        part.reserve(store.blobs)


def _keep(store: Store, file: Remote, part: Partial) -> Digest:
    """Check the whole file and make it a blob. Wrong content is removed. Raises SourceFailed."""
    digest, git = _digests(part, bool(file.git))
    if (file.digest and digest != file.digest) or (file.git and git != file.git):
        part.discard()
        expected = file.digest.short if file.digest else file.git[:12]
        raise SourceFailed(
            f"{file.filename} from {host(file.url)} is not what was announced: "
            f"{expected} expected, {(digest.short if file.digest else git[:12])} received",
            "Nothing was kept. Try again, and tell whoever runs the source if it stays so",
        )
    with disk_errors(store.folder), part.path.open("rb", buffering=0) as opened:
        os.fchmod(opened.fileno(), 0o444)
        os.fsync(opened.fileno())
    store.keep(Received(part.path, digest, file.size))
    part.discard()
    return digest


def _digests(part: Partial, with_git: bool) -> tuple[Digest, str]:
    """The file's digest, and git's SHA-1 of it where that is wanted."""
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % part.size, usedforsecurity=False)
    with part.path.open("rb", buffering=0) as file:
        while chunk := file.read(_HASHED):
            sha256.update(chunk)
            if with_git:
                sha1.update(chunk)
    return Digest(f"sha256:{sha256.hexdigest()}"), sha1.hexdigest()


class _Fetching:
    """Threads that empty the queue of pieces; the first failure stops them all."""

    def __init__(self, outbound: Outbound, files: Sequence[tuple[Remote, Partial]], on_progress: Progress) -> None:
        self._outbound, self._files, self._on_progress = outbound, files, on_progress
        self._done = {file.key: part.done for file, part in files}
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._failure: BaseException | None = None
        self._queue: queue.SimpleQueue[tuple[Remote, Partial, Piece, int]] = queue.SimpleQueue()

    def run(self, connections: int) -> None:
        """Fetch all that is missing."""
        for file, part in self._files:
            self._on_progress(file.filename, self._done[file.key], file.size)
            for piece, done in part.missing:
                self._queue.put((file, part, piece, done))
        count = min(connections, self._queue.qsize())
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.05)
                self._show()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(1.0)
        if self._failure is not None:
            raise self._failure

    def _show(self) -> None:
        for file, _ in self._files:
            self._on_progress(file.filename, self._done[file.key], file.size)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                file, part, piece, done = self._queue.get_nowait()
            except queue.Empty:
                return
            try:
                with part.writer(piece, done) as writer:
                    self._piece(file, writer)
            except BaseException as error:
                self._failure = self._failure or error
                self._stop.set()
                if not isinstance(error, FreeholdError | OSError):
                    raise

    def _piece(self, file: Remote, writer: Writer) -> None:
        """All of one piece, however many tries that takes."""
        tries = 0
        while writer.left and not self._stop.is_set():
            before = writer.done
            try:
                self._stream(file, writer)
            except Passing as error:
                tries = 0 if writer.done - before >= _WORTH else tries
                self._outbound.pause(tries, error, self._stop.wait)
                tries += 1

    def _stream(self, file: Remote, writer: Writer) -> None:
        """What one connection gives. Raises Passing when it ends early."""
        if file.whole and writer.done:
            self._count(file, -writer.done)
            writer.restart()
        begin = writer.piece.begin + writer.done
        wanted = {} if file.whole else {"Range": f"bytes={begin}-{writer.piece.end - 1}"}
        with self._outbound.open(file.url, {**file.headers, **wanted}) as response:
            skip = _check_range(response, file, begin, writer)
            pace = _Pace(self._outbound.stall)
            for received in response.iter_raw():
                if self._stop.is_set():
                    return
                chunk, skip = received[skip:], max(0, skip - len(received))
                taken = self._take(file, writer, chunk)
                self._outbound.throttle.take(taken)
                pace.check(taken, file.url)
                if not writer.left and not file.whole:
                    return
        if writer.left:
            raise Passing(
                f"{host(file.url)} stopped {writer.left} bytes before the end of {file.filename}", "Try again"
            )

    def _take(self, file: Remote, writer: Writer, chunk: bytes) -> int:
        if len(chunk) > writer.left and file.whole:
            raise _wrong_length(file, f"more than the {file.size} bytes announced")
        kept = chunk[: writer.left]
        writer.write(kept)
        self._count(file, len(kept))
        return len(kept)

    def _count(self, file: Remote, count: int) -> None:
        with self._lock:
            self._done[file.key] += count


class _Pace:
    """Notices a server that sends a byte now and then, only to keep the connection."""

    def __init__(self, window: float) -> None:
        self._window, self._since, self._seen = window, time.monotonic(), 0

    def check(self, count: int, url: str) -> None:
        """Raises Passing when too little came for too long."""
        self._seen += count
        passed = time.monotonic() - self._since
        if passed > self._window:
            if self._seen < _SLOWEST * passed:
                raise stalled(url)
            self._since, self._seen = time.monotonic(), 0


def _check_range(response: "Response", file: Remote, begin: int, writer: Writer) -> int:
    """How many bytes to skip. Raises SourceFailed unless what was asked for comes, of a file of the right length."""
    if file.etag and response.headers.get("etag", file.etag) != file.etag:
        raise SourceFailed(f"{file.filename} changed at {host(file.url)} while it was fetched", "Pull it again")
    if response.status_code == 200:
        length = response.headers.get("content-length", "")
        if length.isdigit() and int(length) != file.size:
            raise _wrong_length(file, f"{length} bytes, not the {file.size} announced")
        if writer.piece.begin:
            raise _wrong_length(file, "the whole file where a part was asked for")
        return begin
    sent, _, total = response.headers.get("content-range", "").removeprefix("bytes ").partition("/")
    if total not in ("*", str(file.size)):
        raise _wrong_length(file, f"a file of {shown(total, 30) or 'unknown'} bytes, not the {file.size} announced")
    if not sent.startswith(f"{begin}-"):
        raise _wrong_length(file, "another part than was asked for")
    return 0


def _wrong_length(file: Remote, what: str) -> SourceFailed:
    return SourceFailed(f"{host(file.url)} sends {what}: {file.filename}", "Pull again later, or from another source")
