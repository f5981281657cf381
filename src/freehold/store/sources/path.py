"""Files and folders of this machine: a GGUF file (with its other parts), safetensors with their config, an adapter."""

from pathlib import Path

from freehold.core.errors import NotFound
from freehold.core.reference import Reference
from freehold.formats.reading import shown
from freehold.store import folders, splits
from freehold.store.outbound import Outbound
from freehold.store.sources.offer import Local, Offer


def look(reference: Reference, outbound: Outbound) -> Offer:
    """What is there, checked. Raises NotFound, BadModelFile, Unsupported."""
    path = Path(reference.place).expanduser()
    if not path.exists():
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
