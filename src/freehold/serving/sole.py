"""One model, in a file or of the catalog, that a server is there for: whatever requests call it, it answers."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Forbidden, FreeholdError, NotFound
from freehold.core.request import Request
from freehold.core.settings import Settings
from freehold.engines.base import Launch, ModelFile
from freehold.formats import projector as projectors
from freehold.formats.projector import Projector
from freehold.serving.ready import Own
from freehold.store import splits


class Sole:
    """A model with the way its worker is started; a `ready.Source`."""

    adapter = ""

    def __init__(
        self,
        path: Path | None = None,
        *,
        own: Own | None = None,
        aliases: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
        launch: Launch | None = None,
        embedding: bool = False,
        ranking: bool = False,
        chat_template: str = "",
        adapters: tuple[Path, ...] = (),
        projector: Path | None = None,
        blind: bool = False,
        slots: bool = True,
        metrics: bool = False,
        verbose: bool = False,
        slot_folder: Path | None = None,
    ) -> None:
        """With `blind` it sees no images even where its model could. Raises NotFound for a file that is not there."""
        self.launch, self.embedding, self.ranking = launch or Launch(), embedding, ranking
        self.slots, self.metrics, self.verbose = slots, metrics, verbose
        """What this server tells of itself: of its slots, in numbers, and with each answer the prompt."""
        self.slot_folder = slot_folder
        """Where the state of slots may be kept."""
        self.loaded = True
        """Whether requests find the model loaded, or starting again after it slept."""
        self.failure: FreeholdError | None = None
        """Why it could not be loaded."""
        self.on_failure: Callable[[FreeholdError], None] = lambda error: None
        self.properties: dict[str, Any] | None = None
        """What its worker said of itself at its start."""
        self.numbers: dict[str, Any] | None = None
        """What its worker counted before it was ended."""
        self.tags = tags
        self._own, self._template, self._adapters = own, chat_template, adapters
        kept = None if own is None else own.file()
        self.path = path if kept is None else kept.path
        if self.path is None or not self.path.is_file():
            raise NotFound(f"there is no model file {path}", "Check the path after -m")
        for adapter in adapters:
            if not adapter.is_file():
                raise NotFound(f"there is no adapter {adapter}", "Check the path after --lora")
        if projector is not None and not projector.is_file():
            raise NotFound(f"there is no projector {projector}", "Check the path after --mmproj")
        self._projector = projector or (None if kept is None or blind else kept.projector)
        self.aliases = aliases or (own.label if own else str(path),)
        self.label = self.aliases[0]
        self.digest = Digest.of_json([str(self.path), *self._stamps()])

    def file(self) -> ModelFile:
        """The file as it is to be started."""
        found = self._own.file() if self._own else ModelFile(self.path or Path(), self.label)
        return msgspec.structs.replace(
            found,
            label=self.label,
            chat_template=self._template or found.chat_template,
            adapters=self._adapters or found.adapters,
            launch=self.launch,
            projector=self._projector,
        )

    def eye(self) -> Projector | None:
        """What its projector's header says."""
        return None if self._projector is None else projectors.read(self._projector)

    def adapter_file(self) -> Path:
        """None: its adapters are told of at its start."""
        raise NotFound(f"{self.label} has no adapter to choose")

    def has_slot(self, name: str) -> bool:
        """Whether a slot was saved under a name."""
        return self.slot_folder is not None and (self.slot_folder / name).is_file()

    def lease(self) -> AbstractContextManager[object]:
        """Keeps a model of the catalog from prune; a file is its owner's."""
        return self._own.lease() if self._own else contextlib.nullcontext()

    def require(self, settings: Settings) -> None:
        """A file carries no signature."""
        if self._own is not None:
            self._own.require(settings)
        elif settings.require_signature:
            raise Forbidden(f"{self.label} needs a signature here, and a file has none", "Import it and sign it")

    def applied(self, request: Request) -> Request:
        """The request with what a model of the catalog brings along."""
        return self._own.applied(request) if self._own else request

    def _stamps(self) -> list[tuple[int, int, int]]:
        files = [*splits.files(self.path or Path()), *self._adapters, *([self._projector] if self._projector else [])]
        return [(status.st_size, status.st_mtime_ns, status.st_ino) for status in (each.stat() for each in files)]
