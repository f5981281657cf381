"""Taking models of other tools into the store, by hard link where that is safe, else by copy."""

from pathlib import Path
from typing import Literal

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadName, Conflict, UnknownModel
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.store import importing, neighbours, projectors, splits
from freehold.store.beside import translated
from freehold.store.blobs import shareable
from freehold.store.neighbours import Found
from freehold.store.neighbours.base import read_text, stated
from freehold.store.store import Store

How = Literal["link", "copy", "present"]


class Adopted(msgspec.Struct, frozen=True):
    """A model taken in, or that would be. `how` is how its largest file came; `present` says it was here already."""

    source: str
    name: Name
    how: How
    size: int
    digest: Digest | None = None


def adopt(store: Store, found: Found, name: Name | None = None, *, dry_run: bool = False) -> Adopted:
    """Let `name`, or what the tool's own name makes, point to the model of another tool.

    Digests that the tool's layout states are checked. Raises BadName when there is no name to be had, Conflict when it
    points to another model, Damaged when the content is not what the layout says, and what importing raises.
    """
    quantization = neighbours.inspect(found).quantization
    target = name or found.name
    if target is None or found.path is None:
        raise BadName(f"{found.label} gives no name for the model", "Choose one: --as NAME")
    largest = _largest(found.path)
    _check_free(store, target, found, largest)
    if dry_run:
        return Adopted(found.label, target, _prediction(store, largest), found.size)
    before = store.holds(largest)
    lineage = Lineage(source=found.label)
    if found.path.is_dir():
        manifest = importing.import_folder(
            store, found.path, target, lineage=lineage, share=True, expected=_stated(found.path)
        )
    else:
        with store.lease():
            manifest = importing.import_gguf(
                store,
                found.path,
                target,
                lineage=lineage,
                share=True,
                expected=_stated_files(found),
                filename=_filename(found, quantization),
                projector=projectors.usable(found.projector),
            )
            manifest = _with_texts(store, target, found, manifest)
    how: How = "present" if before else "link" if store.holds(largest) else "copy"
    return Adopted(found.label, target, how, manifest.size, manifest.digest)


def _with_texts(store: Store, name: Name, found: Found, manifest: Manifest) -> Manifest:
    """The model with the texts that its tool has beside it, and with what they say."""
    texts = {filename: read_text(path) for filename, path in found.texts.items()}
    beside = [Part("other", store.add_bytes(data), len(data), filename) for filename, data in texts.items()]
    if not beside:
        return manifest
    made = translated(store, beside, store.path(manifest.parts[0].digest))
    manifest = msgspec.structs.replace(manifest, parts=(*manifest.parts, *beside, *made))
    store.put(name, manifest)
    return manifest


def _largest(path: Path) -> Path:
    """The file that matters, behind links."""
    files = [each for each in path.iterdir() if each.is_file()] if path.is_dir() else splits.files(path)
    return max(files, key=lambda each: each.stat().st_size).resolve()


def _prediction(store: Store, largest: Path) -> How:
    if store.holds(largest):
        return "present"
    same_disk = largest.stat().st_dev == store.folder.stat().st_dev
    return "link" if same_disk and shareable(largest.stat()) else "copy"


def _check_free(store: Store, name: Name, found: Found, largest: Path) -> None:
    """Raises Conflict when the name already means another model."""
    try:
        manifest: Manifest = store.get(name)
    except UnknownModel:
        return
    held = store.holds(largest) or found.stated
    if manifest.lineage.source != found.label and all(part.digest != held for part in manifest.parts):
        raise Conflict(f"{name} already names another model than {found.label}", "Choose another name: --as NAME")


def _stated(folder: Path) -> dict[str, Digest]:
    """The digests that a folder's links state, by file name."""
    named = {path.name: stated(path) for path in folder.iterdir()}
    return {name: digest for name, digest in named.items() if digest is not None}


def _stated_files(found: Found) -> dict[str, Digest]:
    """The digests that are stated of a GGUF model's files: by the tool, or by the names that links lead to."""
    if found.path is None or found.stated is None:
        return {}
    named = {path.name: stated(path) for path in splits.files(found.path)} | {found.path.name: found.stated}
    if found.projector is not None:
        named[found.projector.name] = found.projector_stated
    return {name: digest for name, digest in named.items() if digest is not None}


def _filename(found: Found, quantization: str) -> str:
    """What to call the file when it is exported, where its own name is none: Ollama's are digests."""
    if found.path is not None and found.path.suffix == ".gguf":
        return ""
    base = found.name.model if found.name else "model"
    return f"{base}-{quantization}.gguf" if quantization else f"{base}.gguf"
