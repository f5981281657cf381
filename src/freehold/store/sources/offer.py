"""Offer: what a source has for a reference, and which of its files make the model."""

from pathlib import Path

import msgspec

from freehold.core.manifest import Details, Role
from freehold.store.fetching import Remote


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder that is on this machine already."""

    filename: str
    path: Path
    size: int
    bundle: bool = False


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The files to take for a model, at one version."""

    source: str
    """The canonical reference, pinned."""
    title: str
    """A name for the model, where the user chooses none."""
    files: tuple[Remote, ...] = ()
    local: Local | None = None
    roles: tuple[Role, ...] = ()
    """Of each file, where its name does not tell; else the files are a folder as transformers writes it."""
    licence: str = ""
    place: str = ""
    """What `owner` belongs to."""
    owner: str = ""
    """Who the source says is behind the place: another one later is not trusted unasked."""
    choice: str = ""
    """Why these files and no others, in words."""
    details: Details | None = None
    """What is known of the model before it is fetched."""
    projector: Path | None = None
    """A file of this machine with which the model is to see images, in place of what the source has."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        own = self.projector.stat().st_size if self.projector else 0
        return sum(file.size for file in self.files) + (self.local.size if self.local else 0) + own
