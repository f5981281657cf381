"""Files and folders of this machine: a GGUF file (all its parts), safetensors and config, an adapter, a bundle."""

from pathlib import Path

from freehold.core.errors import BadInput, NotFound
from freehold.core.paths import expanded, there
from freehold.core.reference import Reference
from freehold.formats.bundle.parts import bundle_at
from freehold.formats.bundle.reading import Bundle
from freehold.formats.reading import shown
from freehold.store import folders, splits
from freehold.store.outbound import Outbound
from freehold.store.sources.offer import Local, Offer


def look(reference: Reference, outbound: Outbound) -> Offer:
    """What is there, checked. Raises NotFound, BadModelFile, Unsupported."""
    path = expanded(reference.place)
    bundle = bundle_at(path)
    if bundle is not None and not path.is_dir():
        return _bundle(reference, bundle)
    if not there(path):
        raise NotFound(f"no file or folder {shown(path, 400)}", "Check the path")
    if path.is_dir():
        inspected = folders.inspect(path)
        size = sum(member.path.stat().st_size for member in inspected.members)
        details, title, choice = inspected.details, path.absolute().name, "the folder's model files"
    else:
        parts = splits.files(path)
        details, size = splits.check(parts, parts), sum(part.stat().st_size for part in parts)
        title, choice = (
            splits.base(path.name),
            f"the file and its other {len(parts) - 1} parts" if parts[1:] else "the file",
        )
    local = Local(filename=path.name, path=path, size=size)
    return Offer(source=str(reference), title=title, local=local, details=details, choice=choice)


def _bundle(reference: Reference, path: Path) -> Offer:
    """The one model of a bundle. Raises BadInput when there are more."""
    with Bundle.open(path) as bundle:
        models = bundle.index.models
        if len(models) != 1:
            raise BadInput(f"{shown(path, 400)} holds {len(models)} models", f"freehold bundle import {shown(path)}")
        manifest = bundle.manifest(models[0])
        local = Local(filename=path.name, path=path, size=manifest.size, bundle=True)
    return Offer(
        source=str(reference),
        title=models[0].name,
        local=local,
        details=manifest.details,
        licence=manifest.licence,
        choice="the bundle's model",
    )
