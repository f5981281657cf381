"""What every tool's reader shares: a model found, bounded reading of small files, and folders that may be hostile."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadModelFile, BadName, FreeholdError, NotFound, Unsupported
from freehold.core.manifest import Manifest, Part
from freehold.core.name import SEPARATOR, Name
from freehold.formats.projector import named
from freehold.formats.reading import regular_file, shown
from freehold.store import splits

T = TypeVar("T")
MAX_ENTRIES = 100_000
"""Files and folders looked at in one folder."""
_MAX_TEXT = 4 << 20


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A model in another tool's store: a GGUF file, a folder of safetensors, or the reason why it is neither."""

    tool: str
    id: str
    """As its tool calls it."""
    path: Path | None = None
    size: int = 0
    modified: float = 0.0
    stated: Digest | None = None
    """The digest that the tool's layout gives the file; not checked yet."""
    name: Name | None = None
    """What to call it in the catalog."""
    texts: Mapping[str, Path] = {}
    """Texts of Ollama's beside it, by their names in formats/ollama_texts."""
    projector: Path | None = None
    """A file beside it with which it sees images."""
    projector_stated: Digest | None = None
    problem: str = ""
    """Why it cannot be used here."""
    remark: str = ""
    """What of it is not used here."""

    @property
    def label(self) -> str:
        """How people name it here."""
        return f"{self.tool}{SEPARATOR}{self.id}"


class Place(msgspec.Struct, frozen=True):
    """A file that a tool needs to see a model of ours: a blob, a text or a link."""

    path: Path
    blob: Digest | None = None
    text: bytes | None = None
    target: str = ""
    """Where a symbolic link leads."""


class Shared(msgspec.Struct, frozen=True):
    """A model of ours that a tool is to see."""

    name: Name
    manifest: Manifest
    path: Callable[[Digest], Path]
    """The blob of a digest, checked."""

    def ggufs(self) -> list[Part]:
        """Its GGUF files, in order. Raises Unsupported when it has none."""
        parts = [part for part in self.manifest.parts if part.role == "gguf"]
        if not parts:
            raise Unsupported(
                f"{self.name} is no GGUF file, which this tool needs", "Use --to hf, or quantise it first"
            )
        return parts

    def gguf(self) -> Part:
        """Its one GGUF file. Raises Unsupported when it has none or several."""
        parts = self.ggufs()
        if len(parts) > 1:
            raise Unsupported(
                f"{self.name} is in {len(parts)} files, and this tool keeps one",
                "Use --to lmstudio or hf, or join them with llama-gguf-split --merge",
            )
        return parts[0]

    def projector(self) -> Part | None:
        """The file with which it sees images."""
        return self.manifest.part("projector")


class Neighbour(Protocol):
    """A tool that keeps models on this machine."""

    name: str
    title: str

    def roots(self, environ: Mapping[str, str]) -> list[Path]:
        """Where it keeps them, by its own variables and defaults; the folders need not be there."""
        ...

    def models(self, root: Path) -> Iterator[Found]:
        """What is in one such folder, from names, sizes and small files alone. Raises OSError when it is unreadable."""
        ...

    def places(self, root: Path, shared: Shared) -> list[Place]:
        """What makes a model of ours one of its own, in the order to write it. Raises Unsupported."""
        ...

    def used(self, root: Path, place: Place) -> bool:
        """Whether a file of a model that is to be removed is used by another model of the tool."""
        ...


def home(environ: Mapping[str, str]) -> Path:
    """The user's folder."""
    return Path(environ.get("HOME") or Path.home())


def cache_home(environ: Mapping[str, str]) -> Path:
    """Where caches are, by the XDG rules."""
    return Path(environ.get("XDG_CACHE_HOME") or home(environ) / ".cache")


def entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files, in order. Raises OSError."""
    with os.scandir(folder) as scanned:
        names = [entry.name for entry, _ in zip(scanned, range(MAX_ENTRIES), strict=False)]
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def read_text(path: Path) -> bytes:
    """A small file. Raises BadModelFile."""
    try:
        with regular_file(path) as (file, size):
            if size > _MAX_TEXT:
                raise BadModelFile(f"{path.name} has {size} bytes, more than such a file can")
            return file.read(_MAX_TEXT + 1)
    except (NotFound, BadInput) as error:
        raise BadModelFile(error.message) from error


def read_json(path: Path, kind: type[T]) -> T:
    """A small JSON file in the form of `kind`. Raises BadModelFile."""
    try:
        return msgspec.json.decode(read_text(path), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadModelFile(f"{shown(path.name)} is not in the form that is known: {shown(error)}") from error


def regular(path: Path) -> os.stat_result:
    """What a regular file, behind links too, looks like. Raises BadModelFile."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise BadModelFile(f"{shown(path.name)} is missing: its download may not be complete") from error
    except OSError as error:
        raise BadModelFile(f"{shown(path.name)} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadModelFile(f"{shown(path.name)} is no regular file")
    if not os.access(path, os.R_OK):
        raise BadModelFile(f"{shown(path.name)} cannot be read: its permissions do not allow it")
    return status


def proposed(org: str, model: str, tag: str = "") -> Name | None:
    """A catalog name of these pieces, if they make one."""
    try:
        return Name(org, model, tag or "latest")
    except BadName:
        return None


def gguf_file(path: Path) -> bool:
    """Whether a file name is that of a model: not of an image projector, and of a split one only the first part."""
    first = splits.place(path.name)[0] == 1
    return path.name.lower().endswith(".gguf") and first and not named(path.name)


def one_file(path: Path, **known: Any) -> Found:
    """The model in a GGUF file, or in the parts of a split one; `known` has the fields that its place tells.

    A projector that cannot be used is left out, for a model is of use without it.
    """
    projector: Path | None = known.pop("projector", None)
    try:
        statuses = [regular(path.with_name(part)) for part in splits.siblings(path.name)]
    except FreeholdError as error:
        return Found(**known, problem=error.message)
    size, modified = sum(status.st_size for status in statuses), max(status.st_mtime for status in statuses)
    try:
        if projector is not None:
            size += regular(projector).st_size
    except FreeholdError:
        projector = None
    return Found(**known, path=path, size=size, modified=modified, projector=projector)


def quantization_of(stem: str) -> str:
    """The quantisation type that a file name ends in, in capitals; empty when it names none."""
    found = re.search(r"[-._]((?:UD-)?(?:I?Q\d|TQ\d|BF16|F16|F32|MXFP4)[A-Z0-9_]*)$", stem, re.IGNORECASE)
    return found[1].upper() if found else ""


def stated(path: Path) -> Digest | None:
    """The digest that a file of Hugging Face's cache is called by in blobs/, if it is one of LFS.

    What that links to in turn may be called by another hash.
    """
    target = path.parent / path.readlink() if path.is_symlink() else path
    named = re.fullmatch(r"[0-9a-f]{64}", target.name) and target.parent.name == "blobs"
    return Digest(f"sha256:{target.name}") if named else None
