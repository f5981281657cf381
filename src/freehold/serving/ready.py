"""Makes a model loadable, of the catalog or of another tool: finds its GGUF file, or converts its safetensors once."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import msgspec

from freehold import __version__
from freehold.core.digest import Digest
from freehold.core.errors import BadName, Forbidden, NotFound, UnknownModel, Unsupported
from freehold.core.manifest import Manifest, Role
from freehold.core.name import PLUS, Name
from freehold.core.parameters import Defaults
from freehold.core.request import Request
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.formats import projector
from freehold.formats.projector import Projector
from freehold.proofs.sign.models import require
from freehold.serving import defaults
from freehold.store import Store, beside, kinship, neighbours, projectors, splits
from freehold.store.neighbours.base import read_text

_log = logging.getLogger("freehold.adapters")
_converting = threading.Lock()
"""One conversion at a time: each takes as much memory as the model, and a second one of the same would be waste."""


class Source(Protocol):
    """What a name means. `digest` says which model it is, so that two names of one model share a worker."""

    label: str
    digest: Digest
    adapter: str
    """What its requests call the adapter that is applied to it; empty for none."""

    def file(self) -> ModelFile:
        """What llama.cpp loads. Blocks for as long as a conversion takes the first time."""
        ...

    def adapter_file(self) -> Path:
        """The GGUF file of its adapter. Blocks likewise."""
        ...

    def lease(self) -> AbstractContextManager[object]:
        """Keeps it while a worker has it loaded."""
        ...

    def require(self, settings: Settings) -> None:
        """Raises Forbidden when the settings ask for a signature that it has not."""
        ...

    def applied(self, request: Request) -> Request:
        """The request with what the model brings along."""
        ...

    def eye(self) -> Projector | None:
        """What it sees images with; None where it sees none. Raises Damaged, BadModelFile."""
        ...


def source(store: Store, text: str) -> Source:
    """The model that `text` names: one of the catalog, BASE+ADAPTER of two, or TOOL::ID in another tool's store.

    Raises UnknownModel, and Unsupported for a model of another tool that cannot be used.
    """
    if neighbours.is_foreign(text):
        return Foreign(store, neighbours.lookup(text))
    try:
        base, plus, adapter = text.partition(PLUS)
        own = Own(store, Name.parse(base))
        return Adapted(store, own, Name.parse(adapter)) if plus else own
    except BadName as error:
        raise UnknownModel(f"no model named {text[:120]!r}", error.remedy, param="model") from error


class Own:
    """A model of the catalog."""

    adapter = ""

    def __init__(self, store: Store, name: Name) -> None:
        self.label = str(name)
        self._store = store
        self._name = name
        self.manifest = store.get(name)
        self.digest = self.manifest.digest

    def file(self) -> ModelFile:
        """Its GGUF file, with the template and adapters beside it. Raises Unsupported and Damaged."""
        file = gguf_for(self._store, self.manifest, label=self.label)
        return defaults.dressed(self._store, self.manifest, file)

    def adapter_file(self) -> Path:
        """None."""
        raise NotFound(f"{self.label} has no adapter")

    def lease(self) -> AbstractContextManager[object]:
        """Keeps its blobs from prune."""
        return self._store.lease(self.digest)

    def require(self, settings: Settings) -> None:
        """Looks for a signature by a key that is trusted for the name."""
        require(settings, self._store, self._name)

    def applied(self, request: Request) -> Request:
        """The request with its system message, parameters and messages."""
        return self._brought.applied(request)

    def eye(self) -> Projector | None:
        """What its projector's header says."""
        part = self.manifest.part("projector")
        return None if part is None else projector.read(self._store.path(part.digest), label=Path(part.filename))

    @cached_property
    def _brought(self) -> Defaults:
        return defaults.read(self._store, self.manifest)


class Adapted:
    """A model of the catalog with an adapter of it, applied for each request: both share the model's worker."""

    def __init__(self, store: Store, base: Own, name: Name) -> None:
        self.label = f"{base.label}{PLUS}{name}"
        self.digest = base.digest
        self._store = store
        self._base = base
        self._name = name
        self._manifest = store.get(name)
        self.adapter = str(self._manifest.digest)

    def file(self) -> ModelFile:
        """The base's file."""
        return self._base.file()

    def adapter_file(self) -> Path:
        """The adapter's own file, or what a PEFT folder converts to for this base. Raises Unsupported, BadModelFile."""
        part = self._manifest.part("adapter")
        if part is None or self._manifest.part("gguf") is not None:
            raise Unsupported(f"{self._name} is no adapter", "Name an adapter behind the '+'", param="model")
        if told := kinship.check(self._store, self._manifest, self._base.manifest, label=self.label):
            _log.warning(told)
        if part.filename.endswith(".gguf"):
            return self._store.path(part.digest)
        with _converting:
            return self._store.path(_converted_adapter(self._store, self._manifest, self._base.manifest))

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keeps the blobs of both."""
        with self._base.lease(), self._store.lease(self._manifest.digest):
            yield

    def require(self, settings: Settings) -> None:
        """Looks for signatures of both."""
        self._base.require(settings)
        require(settings, self._store, self._name)

    def applied(self, request: Request) -> Request:
        """The request with what the base brings along, and the adapter."""
        return msgspec.structs.replace(self._base.applied(request), adapter=self.adapter)

    def eye(self) -> Projector | None:
        """The base's."""
        return self._base.eye()


class Foreign:
    """A model of another tool, used where it lies. When its file changes it is another model."""

    adapter = ""

    def __init__(self, store: Store, found: neighbours.Found) -> None:
        self.label = found.label
        self._store = store
        self._path = found.path or Path()
        self._texts = found.texts
        self._projector = projectors.usable(found.projector)
        beside = [*found.texts.values(), *([self._projector] if self._projector else [])]
        stamps = [stamp for path in (self._path, *beside) for stamp in _stamps(path, self.label)]
        self.digest = Digest.of_json([str(self._path), *stamps])

    def file(self) -> ModelFile:
        """The file itself, or what its safetensors convert to. The engine checks the header before it loads it."""
        if not self._path.is_dir():
            own = defaults.of_texts(self._meaning)
            return ModelFile(
                self._path,
                self.label,
                chat_template=self._meaning.get("chat_template", b"").decode("utf-8"),
                context_length=own.parameters.context_length or 0,
                projector=self._projector,
            )
        with _converting:
            converted = _converted(self._store, self.digest, contextlib.nullcontext(self._path))
        return ModelFile(self._store.path(converted), self.label)

    def adapter_file(self) -> Path:
        """None."""
        raise NotFound(f"{self.label} has no adapter")

    def lease(self) -> AbstractContextManager[object]:
        """Nothing: the file is the other tool's, and a file that is open outlives its name."""
        return contextlib.nullcontext()

    def require(self, settings: Settings) -> None:
        """Other tools keep no signatures."""
        if settings.require_signature:
            raise Forbidden(
                f"{self.label} needs a signature here, and models of other tools have none",
                f"Take it in and sign it: freehold adopt {self.label}",
            )

    def applied(self, request: Request) -> Request:
        """The request with what Ollama's texts beside the model say."""
        return defaults.of_texts(self._meaning).applied(request)

    def eye(self) -> Projector | None:
        """What the header of the projector beside it says."""
        return None if self._projector is None else projector.read(self._projector)

    @property
    def _meaning(self) -> dict[Role, bytes]:
        return _meaning(self._path, self.digest, tuple(self._texts.items())) if self._texts else {}


@lru_cache(maxsize=64)
def _meaning(path: Path, identity: Digest, texts: tuple[tuple[str, Path], ...]) -> dict[Role, bytes]:
    return beside.meaning({filename: read_text(text) for filename, text in texts}, path)


def _stamps(path: Path, label: str) -> list[tuple[int, ...]]:
    try:
        files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else splits.files(path)
        return [(status.st_size, status.st_mtime_ns, status.st_ino) for status in (each.stat() for each in files)]
    except OSError as error:
        raise NotFound(
            f"{label} cannot be read: {error.strerror}", "'freehold list --all' shows what is there"
        ) from error


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
        return ModelFile(store.path(_converted(store, manifest.digest, _materialised(store, manifest))), label)


@contextlib.contextmanager
def _materialised(store: Store, manifest: Manifest) -> Iterator[Path]:
    from freehold.store import importing

    with store.lease(manifest.digest), store.room() as folder:
        importing.materialise(store, manifest, folder)
        yield folder


def _converted_adapter(store: Store, adapter: Manifest, base: Manifest) -> Digest:
    from freehold import convert
    from freehold.store import adapting, importing

    key = f"adapter-for:{__version__}:{base.digest}:{adapter.digest}"
    known = store.runs.recall_step(key)
    if known is not None:
        return Digest.parse(known.decode("ascii"))
    with store.lease(adapter.digest, base.digest), store.room() as room:
        importing.materialise(store, adapter, room / "adapter")
        part = adapting.add(store, room / "adapter", base, 0, convert)
        store.runs.remember_step(key, part.digest.text.encode("ascii"), [part.digest])
    return part.digest


def _converted(store: Store, identity: Digest, folder: AbstractContextManager[Path]) -> Digest:
    """What the safetensors in `folder` convert to, remembered under the model's identity."""
    from freehold import convert
    from freehold.store import folders

    key = f"gguf-for:{__version__}:{identity}"
    known = store.runs.recall_step(key)
    if known is not None:
        return Digest.parse(known.decode("ascii"))
    with store.lease(), folder as path, store.room() as room:
        out = room / "model.gguf"
        folders.inspect(path)
        convert.to_gguf(path, out, tools=store.tools)
        digest, _ = store.add_file(out, move=True)
        store.runs.remember_step(key, digest.text.encode("ascii"), [digest])
    return digest
