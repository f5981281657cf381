"""Writing a bundle, in one file or in parts, going on where an interrupted call stopped."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from freehold.core.errors import BadInput, Conflict, Damaged, FreeholdError, TooLarge
from freehold.formats.atomic import disk_errors, disk_full, sync_folder
from freehold.formats.bundle.index import Index, Item
from freehold.formats.bundle.layout import PIECE, PIECES, Pieces, Region, layout, total
from freehold.formats.reading import shown

MAX_PARTS = 9999
Contents = Callable[[Item], Iterator[bytes]]
Progress = Callable[[int, int], None]


def _silent(done: int, size: int) -> None:
    pass


def write(
    index: Index, contents: Contents, path: Path, *, split: int = 0, on_progress: Progress = _silent
) -> list[Path]:
    """Write the bundle of `index` to `path`, or with `split` to parts of at most so many bytes. The files written.

    What an interrupted call left is compared and kept. Raises Conflict when the file exists or is being written,
    DiskFull, and Damaged when a file's content is not what the index says; then nothing is left.
    """
    regions = layout(index)
    size = total(regions)
    paths = part_paths(path, size, split)
    _check_free(path, paths)
    length = _part_size(split) if split else size
    with _Files(paths, length, size).held() as files:
        done = 0
        for chunk in stream(regions, contents):
            files.put(done, chunk)
            done += len(chunk)
            on_progress(done, size)
        files.finish()
    return paths


def _part_size(split: int) -> int:
    # In whole pieces, so that each part can be recognised by the first piece in it.
    return split // PIECE * PIECE


def part_paths(path: Path, size: int, split: int) -> list[Path]:
    """The files of a bundle of `size` bytes. Raises BadInput for a split that is too small."""
    if not split:
        return [path]
    if split < PIECE:
        raise BadInput(f"parts of {split} bytes are too small", "The smallest part is 1 MiB: --split 2MB")
    count = -(-size // _part_size(split))
    if count > MAX_PARTS:
        raise TooLarge(f"the bundle would have {count} parts, more than {MAX_PARTS}", "Choose larger parts")
    return [path.with_name(f"{path.name}.{number:03}") for number in range(1, count + 1)]


def _check_free(path: Path, paths: list[Path]) -> None:
    taken = next((file for file in (path, *paths) if file.exists() or file.is_symlink()), None)
    if taken is not None:
        raise Conflict(f"{shown(taken, 400)} exists", "Remove it or choose another name")
    if not path.parent.is_dir():
        raise BadInput(f"no folder {shown(path.parent, 400)}", "Make it, or choose another name")


def stream(regions: list[Region], contents: Contents) -> Iterator[bytes]:
    """The bytes of the bundle. Raises Damaged when a file's content is not what the index says."""
    pieces = Pieces()
    for region in regions:
        if region.literal is not None:
            chunks: Iterator[bytes] = iter((region.literal,))
        elif region.item is not None:
            chunks = _checked(region.item, contents(region.item))
        else:
            chunks = iter((pieces.listed(),))
        for chunk in chunks:
            if region.what != PIECES:
                pieces.update(chunk)
            yield chunk


def _checked(item: Item, chunks: Iterator[bytes]) -> Iterator[bytes]:
    state, length = sha256(), 0
    for chunk in chunks:
        state.update(chunk)
        length += len(chunk)
        if length > item.size:
            break
        yield chunk
    if length != item.size or "sha256:" + state.hexdigest() != item.digest:
        raise Damaged(f"{item.path} is not what its digest says", "Run 'freehold fsck --deep'")


class _Files:
    """The unfinished files: `<part>.partial`, renamed when all is written."""

    def __init__(self, paths: list[Path], length: int, total: int) -> None:
        self._paths, self._length, self._total = paths, length, total
        self._partial = [path.with_name(path.name + ".partial") for path in paths]
        self._open: tuple[int, int] = (-1, -1)

    @contextmanager
    def held(self) -> Iterator["_Files"]:
        """Nobody else writes them meanwhile. An error removes them, Ctrl-C does not: the next call goes on."""
        with disk_errors(self._paths[0]), _locked(self._partial[0]):
            try:
                self._reserve()
                yield self
            except (FreeholdError, OSError):
                self._close()
                for path in self._partial:
                    path.unlink(missing_ok=True)
                raise
            finally:
                self._close()

    def _reserve(self) -> None:
        there = sum(path.stat().st_size for path in self._partial if path.exists())
        if shutil.disk_usage(self._paths[0].parent).free + there < self._total:
            raise disk_full(self._paths[0].parent, self._total)

    def put(self, offset: int, data: bytes) -> None:
        """Write `data` there, unless it is there already."""
        view = memoryview(data)
        while view:
            number, place = divmod(offset, self._length)
            taken = view[: self._length - place]
            descriptor = self._descriptor(number)
            if os.pread(descriptor, len(taken), place) != taken:
                _write_at(descriptor, taken, place)
            offset += len(taken)
            view = view[len(taken) :]

    def _descriptor(self, number: int) -> int:
        if self._open[0] != number:
            self._close()
            self._open = (number, _opened(self._partial[number]))
        return self._open[1]

    def _close(self) -> None:
        number, descriptor = self._open
        self._open = (-1, -1)
        if descriptor < 0:
            return
        try:
            length = min(self._length, self._total - number * self._length)
            os.ftruncate(descriptor, min(os.fstat(descriptor).st_size, length))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def finish(self) -> None:
        """Everything is written: give the files their names."""
        self._close()
        for partial, path in zip(self._partial, self._paths, strict=True):
            partial.rename(path)
        sync_folder(self._paths[0].parent)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else writes this bundle. Raises Conflict."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Conflict(f"{shown(path, 400)} is being written", "Wait for the other export to end") from error
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise BadInput(f"cannot write {shown(path, 400)}: {error.strerror}", "Check the path") from error


def _write_at(descriptor: int, data: memoryview, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written
