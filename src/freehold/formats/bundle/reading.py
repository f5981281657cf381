"""Reading a bundle strictly: every byte is the one that its index demands, or one line says which is not."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, Damaged
from freehold.core.manifest import Manifest
from freehold.formats.bundle.index import MAX_INDEX, Index, Item, Model, parse, why_odd
from freehold.formats.bundle.layout import BLOCK, PIECE, PIECES, Pieces, Region, index_size, layout, total
from freehold.formats.bundle.parts import Parts
from freehold.formats.reading import bad_file, shown

MAX_MANIFEST = 16 << 20
_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
    b"L": "an extended header",
    b"K": "an extended header",
    b"x": "an extended header",
    b"g": "an extended header",
    b"S": "a sparse file",
    b"M": "a file continued from elsewhere",
}
Progress = Callable[[int, int], None]


def _silent(done: int, size: int) -> None:
    pass


class Bundle:
    """An open bundle whose index is sound and whose length is right; the rest is known after `verify`."""

    def __init__(self, parts: Parts, index: Index, regions: list[Region]) -> None:
        self.parts, self.index, self.regions = parts, index, regions
        self._places = {region.item.path: region.offset for region in regions if region.item is not None}

    @classmethod
    def open(cls, path: Path) -> Self:
        """The bundle in a file, or in parts of which any or the common name is given.

        Raises NotFound, BadInput, and BadModelFile for whatever is wrong.
        """
        parts = Parts(path)
        try:
            index = _index(parts)
            regions = layout(index)
            parts.check_sizes(total(regions))
        except BaseException:
            parts.__exit__(None, None, None)
            raise
        return cls(parts, index, regions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.parts.__exit__(kind, error, trace)

    @property
    def path(self) -> Path:
        """The file, or what the parts' names begin with."""
        return self.parts.path

    @property
    def size(self) -> int:
        """Bytes in all."""
        return total(self.regions)

    def contents(self, item: Item) -> Iterator[bytes]:
        """The bytes of a file of the bundle."""
        return self.parts.chunks(self._places[item.path], item.size)

    def manifest(self, model: Model) -> Manifest:
        """A model's manifest, if all that it needs is in the bundle too. Raises BadModelFile."""
        item = self.index.blob(Digest(model.manifest))
        if item is None or item.size > MAX_MANIFEST:
            raise bad_file(self.path, f"the manifest of {model.name} is {item.size if item else 0} bytes long")
        data = b"".join(self.contents(item))
        try:
            manifest = Manifest.decode(data)
        except Damaged as error:
            raise bad_file(self.path, f"{model.name}: {error.message}") from error
        if manifest.encode() != data:
            raise bad_file(self.path, f"the manifest of {model.name} is not written in canonical form")
        self._check_complete(model, manifest)
        return manifest

    def _check_complete(self, model: Model, manifest: Manifest) -> None:
        for part in manifest.parts:
            found = self.index.blob(part.digest)
            if found is None:
                raise bad_file(self.path, f"{model.name} needs {part.digest.short}, which is not in the bundle")
            if found.size != part.size:
                raise bad_file(self.path, f"a part of {model.name} has {found.size} bytes instead of {part.size}")
            if why_odd(part.filename) or "/" in part.filename:
                reason = why_odd(part.filename) or "a name with a folder"
                raise bad_file(self.path, f"a part of {model.name} has {reason}: {shown(part.filename)!r}")
        for digest in manifest.evidence:
            if self.index.blob(digest) is None:
                raise bad_file(self.path, f"{model.name} needs {digest.short}, which is not in the bundle")

    def verify(self, on_progress: Progress = _silent) -> None:
        """Check every byte. Raises BadModelFile naming the file and what is wrong."""
        try:
            self._verify(on_progress)
        except BadModelFile as error:
            culprit = self._wrong_part() if self.parts.split else None
            if culprit is None:
                raise
            raise culprit from error
        for model in self.index.models:
            self.manifest(model)

    def _verify(self, on_progress: Progress) -> None:
        pieces, seen = Pieces(), {region.what: False for region in self.regions}
        for region in self.regions:
            if region.literal is None and region.item is None:
                self._check_literal(region, pieces.listed(), seen)
                continue
            if region.literal is not None:
                self._check_literal(region, region.literal, seen)
                if region.what != PIECES:
                    pieces.update(region.literal)
            elif region.item is not None:
                self._check_item(region, region.item, pieces, on_progress)
            seen[region.what] = True
            on_progress(region.offset + region.size, self.size)

    def _check_literal(self, region: Region, wanted: bytes, seen: dict[str, bool]) -> None:
        found = self.parts.read(region.offset, region.size)
        if found != wanted:
            raise bad_file(self.path, _difference(region, found, wanted, seen))

    def _check_item(self, region: Region, item: Item, pieces: Pieces, on_progress: Progress) -> None:
        state, done = sha256(), region.offset
        for chunk in self.contents(item):
            state.update(chunk)
            pieces.update(chunk)
            done += len(chunk)
            on_progress(done, self.size)
        if "sha256:" + state.hexdigest() != item.digest:
            raise bad_file(self.path, f"{item.path} is not what its digest says", "Copy or fetch the bundle again")

    def _wrong_part(self) -> BadModelFile | None:
        """Which part holds bytes that belong elsewhere or nowhere, as the list of pieces at the end tells."""
        listed = next(region for region in self.regions if region.literal is None and region.item is None)
        wanted = self.parts.read(listed.offset, listed.size).decode("ascii", "replace").split("\n")
        step = self.parts.sizes[0] // PIECE
        firsts = {
            wanted[number * step]: file for number, file in enumerate(self.parts.files) if step * number < len(wanted)
        }
        for number, file in enumerate(self.parts.files):
            for place in range(step):
                piece = number * step + place
                if piece >= len(wanted) - 1:
                    break
                data = self.parts.read(piece * PIECE, min(PIECE, listed.offset - BLOCK - piece * PIECE))
                found = sha256(data).hexdigest()
                if found == wanted[piece]:
                    continue
                if place == 0 and found in firsts:
                    return _swapped(file, firsts[found])
                return bad_file(file, f"this part is damaged in its mebibyte {place + 1}", "Copy the part again")
        return None


def _index(parts: Parts) -> Index:
    first = parts.read(0, BLOCK)
    size = index_size(first)
    if size is None:
        starting = parts.starting()
        if parts.split and starting:
            raise _swapped(parts.files[0], starting[0])
        if parts.size < BLOCK:
            raise bad_file(parts.path, f"truncated: {parts.size} bytes are too few for a bundle")
        raise bad_file(parts.files[0], f"not a bundle: {_first_member(first)}")
    if size > MAX_INDEX:
        raise bad_file(parts.path, f"its index claims {size} bytes, more than {MAX_INDEX}")
    data = parts.read(BLOCK, size)
    if len(data) < size:
        raise bad_file(parts.path, "truncated inside the index")
    return parse(data, parts.path)


def _swapped(file: Path, other: Path) -> BadModelFile:
    reason = f"this part holds what belongs in {shown(other.name)}: the parts are swapped"
    return bad_file(file, reason, "Give the parts their own names again")


def _first_member(block: bytes) -> str:
    if block[257:262] != b"ustar":
        return "it does not begin with a tar header"
    kind = _TYPES.get(block[156:157])
    name = shown(_name(block), 80)
    return f"its first member is {kind or 'the file'} {name!r}, not an index"


def _name(block: bytes) -> str:
    folder, name = block[345:500].split(b"\0")[0], block[:100].split(b"\0")[0]
    return (folder + b"/" + name if folder else name).decode("utf-8", "replace")


def _difference(region: Region, found: bytes, wanted: bytes, seen: dict[str, bool]) -> str:
    """Why these bytes are not a bundle's: what kind of member stands where a file was promised."""
    if len(found) < len(wanted):
        return f"truncated at {region.what}"
    if region.literal is None:
        return "its bytes are not those that were written: the list of pieces differs"
    if not region.is_header:
        return f"bytes that belong to nothing after {region.what}"
    name, kind = _name(found), _TYPES.get(found[156:157])
    if kind is not None:
        target = _text(found[157:257])
        return f"{kind} {shown(name)!r}{f' to {shown(target)!r}' if target else ''} where {region.what} belongs"
    if seen.get(name):
        return f"the file {shown(name)!r} appears twice"
    if name != region.what:
        odd = why_odd(name)
        return f"the file {shown(name)!r}{f', {odd},' if odd else ''} where {region.what} belongs"
    return f"the header of {region.what} differs from what the index says"


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")
