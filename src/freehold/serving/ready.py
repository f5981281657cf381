"""Makes a catalog model loadable: finds its GGUF file, or converts its safetensors once and remembers the result."""

import tempfile
import threading
from importlib import resources
from pathlib import Path

from freehold import __version__
from freehold.core.digest import Digest
from freehold.core.errors import Unsupported
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.engines.base import ModelFile
from freehold.store import Store, splits

STARTER = Name.parse("starter")
_converting = threading.Lock()
"""One conversion at a time: each takes as much memory as the model, and a second one of the same would be waste."""


def gguf_for(store: Store, manifest: Manifest, *, label: str = "") -> ModelFile:
    """The file that llama.cpp loads for this model. Raises Unsupported for a model that has none and gives none.

    Blocks, for as long as a conversion takes the first time; call it in a thread.
    """
    label = label or manifest.digest.short
    blobs = [store.path(part.digest) for part in manifest.parts if part.role == "gguf"]
    if len(blobs) > 1:
        return ModelFile(splits.side_by_side(store.folder / splits.SPLIT, manifest, blobs), label)
    if blobs:
        return ModelFile(blobs[0], label)
    if manifest.part("weights") is None:
        raise Unsupported(
            f"{label} holds no weights that can be run alone", "Merge an adapter into its base: 'freehold make'"
        )
    with _converting:
        return ModelFile(store.path(_converted(store, manifest)), label)


def _converted(store: Store, manifest: Manifest) -> Digest:
    from freehold import convert
    from freehold.store import importing

    key = f"gguf-for:{__version__}:{manifest.digest}"
    known = store.runs.recall_step(key)
    if known is not None:
        return Digest.parse(known.decode("ascii"))
    with store.lease(manifest.digest), tempfile.TemporaryDirectory(dir=store.folder, prefix="convert-") as temporary:
        folder, out = Path(temporary, "model"), Path(temporary, "model.gguf")
        importing.materialise(store, manifest, folder)
        convert.to_gguf(folder, out)
        digest, _ = store.add_file(out, move=True)
        store.runs.remember_step(key, digest.text.encode("ascii"), [digest])
    return digest


def ensure_starter(store: Store) -> None:
    """Import the starter model that ships with Freehold, if the catalog lacks it and it ships."""
    if any(store.catalog.bound(STARTER)):
        return
    from freehold.store import importing

    with resources.as_file(resources.files("freehold.assets").joinpath("starter")) as folder:
        if folder.is_dir():
            importing.import_folder(store, folder, STARTER, licence="Apache-2.0")
