"""Where lost content may be had again: files and bundles that a person names, other tools, and where it came from."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from freehold.core.errors import FreeholdError, NotFound
from freehold.core.reference import parse
from freehold.formats.bundle.parts import bundle_at
from freehold.formats.bundle.reading import Bundle
from freehold.formats.reading import shown
from freehold.store import neighbours
from freehold.store.fetching import Remote, fetch
from freehold.store.outbound import Outbound
from freehold.store.repair import Wanted
from freehold.store.rooms import ROOMS, room
from freehold.store.sources import source
from freehold.store.store import Store

MAX_FILES = 200_000
"""Files looked at in the folders that are given."""


class OtherTools:
    """What other tools keep."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        kept = [path for found in neighbours.everything(environ) for path in (found.path, found.projector) if path]
        self._files = [file for path in kept for file in _files(path)]

    def offer(self, wanted: Wanted) -> Generator[Path, None, None]:
        """Files of the same size, those that are called by the digest first."""
        yield from _fitting(self._files, wanted)


class Given:
    """Files, and folders of files, that a person names. Raises NotFound."""

    def __init__(self, paths: Sequence[Path]) -> None:
        missing = next((path for path in paths if not path.exists()), None)
        if missing is not None:
            raise NotFound(f"no such file or folder: {shown(missing, 400)}", "Check the path")
        self._files = [file for path in paths for file in _files(path)]

    def offer(self, wanted: Wanted) -> Generator[Path, None, None]:
        """Files of the same size, those that are called by the digest first."""
        yield from _fitting(self._files, wanted)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = (file for file, _ in zip(path.rglob("*"), range(MAX_FILES), strict=False))
    return sorted(file for file in inside if file.is_file())


def _fitting(files: Sequence[Path], wanted: Wanted) -> Generator[Path, None, None]:
    called = [path for path in files if wanted.digest.hex in path.name]
    yield from called
    for path in files:
        if path not in called and wanted.size and _size(path) == wanted.size:
            yield path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


class Bundles:
    """Bundles among the files that a person names; one that cannot be read is passed over, see `bundle verify`."""

    def __init__(self, paths: Sequence[Path], folder: Path) -> None:
        files = [file for path in paths for file in _files(path)]
        self._paths = list(dict.fromkeys(found for file in files if (found := bundle_at(file)) is not None))
        self._folder = folder

    def offer(self, wanted: Wanted) -> Generator[Path, None, None]:
        """The content under its digest in any of them, in a file of its own."""
        for path in self._paths:
            with suppress(FreeholdError), Bundle.open(path) as bundle:
                item = bundle.index.blob(wanted.digest)
                if item is None:
                    continue
                with room(self._folder / ROOMS) as folder:
                    found = folder / path.name
                    with found.open("xb") as file:
                        for chunk in bundle.contents(item):
                            file.write(chunk)
                    yield found


class Origins:
    """The places that models were pulled from, at the version that was pulled. `say` is told what cannot be had."""

    def __init__(self, store: Store, outbound: Outbound, say: Callable[[str], None] = lambda reason: None) -> None:
        self._store, self._outbound, self._say = store, outbound, say

    def offer(self, wanted: Wanted) -> Generator[Path, None, None]:
        """The blob itself, fetched anew."""
        if not wanted.source or self._outbound.offline:
            return
        try:
            offer = source(parse(wanted.source)).look(parse(wanted.source), self._outbound)
            file = _file(offer.files, wanted)
            if file is not None:
                with self._store.lease(wanted.digest):
                    fetch(self._store, self._outbound, [file])
                    yield self._store.blobs.path(wanted.digest)
        except FreeholdError as error:
            self._say(f"{shown(wanted.source, 400)}: {error.message}")


def _file(files: Sequence[Remote], wanted: Wanted) -> Remote | None:
    """The file of this digest, or of this name where the source gives none."""
    same = (file for file in files if file.digest == wanted.digest)
    named = (file for file in files if file.digest is None and file.filename == wanted.filename)
    return next(same, None) or next(named, None)
