"""The bytes of a bundle as regions, and tar headers.

POSIX.1-1988 ustar; lengths from 8 GiB are in base 256, as GNU tar writes them.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from freehold.core.errors import Unsupported
from freehold.formats.bundle.index import Index, Item

BLOCK = 512
PIECE = 1 << 20
"""Bytes that one line of `pieces.sha256` vouches for."""
INDEX, PIECES = "freehold-bundle.json", "pieces.sha256"
END = bytes(2 * BLOCK)
_LINE = 65
_OCTAL_LIMIT = 8**11


class Region(NamedTuple):
    """Some bytes of a bundle: those of `literal`, or the content of `item`, or (neither) the list of pieces."""

    offset: int
    size: int
    what: str
    literal: bytes | None = None
    item: Item | None = None
    is_header: bool = False


def header(path: str, size: int) -> bytes:
    """The tar header of a regular file: mode 0644, owner and time zero, so that it says nothing of the machine.

    Raises Unsupported for a path that ustar cannot hold.
    """
    folder, name = "", path
    if len(path) > 100:
        folder, _, name = path.rpartition("/")
    if len(name) > 100 or len(folder) > 155 or not path.isascii():
        raise Unsupported(f"the name {path[:120]!r} is too long for a bundle", "Shorten the file's name")
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = [
        name.encode().ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        length,
        b"00000000000\0",
        b" " * 8,
        b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2,
        folder.encode().ljust(155, b"\0") + bytes(12),
    ]
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def index_size(block: bytes) -> int | None:
    """The length of the index, from the first header of a bundle; None when it is no such header."""
    text = block[124:135]
    if len(block) != BLOCK or not text.isdigit() or any(digit > ord("7") for digit in text):
        return None
    size = int(text, 8)
    return size if block == header(INDEX, size) else None


def layout(index: Index) -> list[Region]:
    """All regions of the bundle in order, without gap."""
    return list(_regions(index))


def _regions(index: Index) -> Iterator[Region]:
    data, offset = index.encode(), 0
    for region in _member(offset, INDEX, len(data), data, None):
        yield region
        offset = region.offset + region.size
    for item in index.items:
        for region in _member(offset, item.path, item.size, None, item):
            yield region
            offset = region.offset + region.size
    for region in _member(offset, PIECES, -(-offset // PIECE) * _LINE, None, None):
        yield region
        offset = region.offset + region.size
    yield Region(offset, len(END), "the end", END)


def _member(offset: int, path: str, size: int, data: bytes | None, item: Item | None) -> Iterator[Region]:
    yield Region(offset, BLOCK, path, header(path, size), is_header=True)
    yield Region(offset + BLOCK, size, path, data, item)
    padding = -size % BLOCK
    if padding:
        yield Region(offset + BLOCK + size, padding, path, bytes(padding))


def total(regions: list[Region]) -> int:
    """Bytes of the whole bundle."""
    return regions[-1].offset + regions[-1].size


class Pieces:
    """The digests of a bundle's pieces, taken while its bytes pass."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self._state, self._filled = sha256(), 0

    def update(self, data: bytes) -> None:
        """The next bytes."""
        view = memoryview(data)
        while view:
            taken = view[: PIECE - self._filled]
            self._state.update(taken)
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled == PIECE:
                self._close()

    def _close(self) -> None:
        self.digests.append(self._state.hexdigest())
        self._state, self._filled = sha256(), 0

    def listed(self) -> bytes:
        """The content of `pieces.sha256`. Ends the last piece."""
        if self._filled:
            self._close()
        return "".join(f"{digest}\n" for digest in self.digests).encode()
