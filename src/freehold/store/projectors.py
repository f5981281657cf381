"""Which projector belongs to a model, and how it is kept: the file `mmproj-….gguf` with which it sees images.

The rule: of the GGUF files with `mmproj` in their names, those in the model's own folder, or else in the nearest folder
above it; of these the type that comes first in PREFERRED, and then the first by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from freehold.core.digest import Digest
from freehold.core.errors import FreeholdError
from freehold.core.manifest import Part
from freehold.core.reference import quant_in
from freehold.formats import projector
from freehold.store.folders import plain_name
from freehold.store.store import Store

PREFERRED = ("F16", "FP16", "BF16", "Q8_0", "F32", "FP32")
"""Best first: projectors are small, and half precision loses nothing."""


def chosen(names: Iterable[str], model: str) -> str:
    """The projector of the model in a file, among the files of its repository or folder; empty when it has none."""
    found = [name for name in names if name.lower().endswith(".gguf") and projector.named(name) and _above(name, model)]
    return min(found, key=_order, default="")


def beside(path: Path, inside: Iterable[Path]) -> Path | None:
    """The same of a file on the disk, among the files of one folder."""
    files = {each.name: each for each in inside}
    return files.get(chosen(files, path.name))


def usable(path: Path | None) -> Path | None:
    """The file, if images can be seen with it: a model of another tool is of use without."""
    try:
        return path if path is not None and projector.read(path) else None
    except FreeholdError:
        return None


def _above(name: str, model: str) -> bool:
    """Whether the file is in the model's folder, or in one above it."""
    folder = name.rpartition("/")[0]
    return not folder or model.startswith(f"{folder}/")


def _order(name: str) -> tuple[int, int, str]:
    kind = quant_in(name.rpartition("/")[2].removesuffix(".gguf"))
    return -name.count("/"), PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED), name


def keep(
    store: Store,
    path: Path,
    taken: Sequence[str],
    *,
    share: bool = False,
    expected: Mapping[str, Digest] = MappingProxyType({}),
) -> Part:
    """Keep the projector of a model whose files are called `taken`, in a lease. Raises BadModelFile, Unsupported."""
    projector.read(path)
    digest, size = store.add_file(path.resolve() if share else path, share=share, expected=expected.get(path.name))
    # What counts is what was stored: the file may have changed since the first look, which only saves the copying.
    projector.read(store.path(digest), label=path)
    return Part("projector", digest, size, name_for(path.name, taken))


def name_for(filename: str, taken: Sequence[str]) -> str:
    """What to call a projector beside a model's files: as it was called, if that says what it is."""
    if plain_name(filename) and projector.named(filename) and filename not in taken:
        return filename
    return next(name for name in ("mmproj.gguf", "mmproj-model.gguf") if name not in taken)
