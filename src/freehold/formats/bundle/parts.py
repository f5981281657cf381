"""The file or files of a bundle, read as one sequence of bytes."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from freehold.core.errors import BadModelFile, NotFound
from freehold.formats.bundle.layout import BLOCK, index_size
from freehold.formats.reading import bad_file, regular_file, shown

CHUNK = 1 << 20
SUFFIX = ".fhb"
_NUMBERED = re.compile(r"(.+)\.([0-9]{3,4})")
_REMEDY = "Copy the parts again"


class Parts:
    """Open files, one after the other. Raises NotFound, BadInput, and BadModelFile naming a part that is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = [path]
        if _looks_numbered(path) or not path.exists():
            self.path, self.files = _numbered(path)
        self._stack = ExitStack()
        try:
            opened = [self._stack.enter_context(regular_file(file)) for file in self.files]
        except BaseException:
            self._stack.close()
            raise
        self._open = [file for file, _ in opened]
        self.sizes = [size for _, size in opened]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(self.sizes)

    @property
    def split(self) -> bool:
        """Whether the bundle is cut in parts."""
        return self.files != [self.path]

    def read(self, offset: int, count: int) -> bytes:
        """The bytes there; fewer at the end."""
        pieces, length = [], self.sizes[0]
        while count > 0 and length and offset < self.size:
            number, place = divmod(offset, length) if self.split else (0, offset)
            if number >= len(self._open):
                break
            wanted = min(count, self.sizes[number] - place)
            piece = os.pread(self._open[number].fileno(), wanted, place) if wanted > 0 else b""
            if not piece:
                break
            pieces.append(piece)
            offset, count = offset + len(piece), count - len(piece)
        return b"".join(pieces)

    def chunks(self, offset: int, count: int) -> Iterator[bytes]:
        """The bytes there, piece by piece. Raises BadModelFile when the file ends before."""
        while count:
            piece = self.read(offset, min(count, CHUNK))
            if not piece:
                raise bad_file(self.path, "the file became shorter while it was read")
            yield piece
            offset, count = offset + len(piece), count - len(piece)

    def check_sizes(self, total: int) -> None:
        """Raises BadModelFile unless the parts, in number and length, make a bundle of `total` bytes."""
        if not self.split:
            if self.size != total:
                raise bad_file(self.path, _length(self.size, total), "Copy or fetch the file again")
            return
        length = self.sizes[0]
        count = -(-total // length) if length else 0
        if len(self.files) < count:
            missing = self.files[0].with_name(f"{self.path.name}.{len(self.files) + 1:03}")
            raise bad_file(missing, f"this part is missing, one of {count}", _REMEDY)
        if len(self.files) > count:
            raise bad_file(self.files[count], f"this part is beyond the bundle's last, number {count}", _REMEDY)
        for number, (file, size) in enumerate(zip(self.files, self.sizes, strict=True)):
            wanted = min(length, total - number * length)
            if size != wanted:
                raise bad_file(file, _length(size, wanted), _REMEDY)

    def starting(self) -> list[Path]:
        """Those parts that begin as a bundle does."""
        return [
            file
            for file, descriptor in zip(self.files, self._open, strict=True)
            if index_size(os.pread(descriptor.fileno(), BLOCK, 0)) is not None
        ]


def _length(found: int, wanted: int) -> str:
    if found < wanted:
        return f"truncated: {found} of {wanted} bytes"
    return f"{found - wanted} bytes after its end belong to nothing"


def _looks_numbered(path: Path) -> bool:
    return bool(_NUMBERED.fullmatch(path.name))


def _numbered(path: Path) -> tuple[Path, list[Path]]:
    """The bundle that is meant, and its parts in order. Raises NotFound, and BadModelFile when one is missing."""
    match = _NUMBERED.fullmatch(path.name)
    base = path.with_name(match[1]) if match else path
    found = dict(_listed(base))
    if not found:
        raise NotFound(f"no such file: {shown(path, 400)}", "Check the path")
    for number in range(1, max(found) + 1):
        if number not in found:
            raise _missing(base, number)
    return base, [found[number] for number in sorted(found)]


def _missing(base: Path, number: int) -> BadModelFile:
    return bad_file(base.with_name(f"{base.name}.{number:03}"), "this part is missing", _REMEDY)


def _listed(base: Path) -> Iterator[tuple[int, Path]]:
    if not base.parent.is_dir():
        return
    for file in base.parent.iterdir():
        match = _NUMBERED.fullmatch(file.name)
        if match and match[1] == base.name and int(match[2]) and not file.is_dir():
            yield int(match[2]), file


def bundle_at(path: Path) -> Path | None:
    """The bundle that a file is by its name, or is a part of; None for any other file."""
    if path.suffix == SUFFIX:
        return path
    return path.with_suffix("") if _NUMBERED.fullmatch(path.name) and path.with_suffix("").suffix == SUFFIX else None
