"""The models of the store and what their names mean, read again only when something was written to its catalog."""

import asyncio

from freehold.core.errors import BadName, UnknownModel
from freehold.core.name import Name
from freehold.serving import ready
from freehold.store import Entry, Store
from freehold.store.changes import Changes, Mark
from freehold.store.neighbours import is_foreign

_MOST = 1000
"""Names of which the meaning is kept: bases and adapters can be named in more ways than there are models."""


class _Kept:
    """What was read since something was last written."""

    def __init__(self) -> None:
        self.entries: list[Entry] | None = None
        self.sources: dict[str, ready.Source] = {}


class Models:
    """What the catalog lists, and what a request means by a name. For one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes(store.catalog.path)
        self._mark: Mark | None = None
        self._kept = _Kept()

    async def all(self) -> list[Entry]:
        """All models by name. Raises Damaged naming the model whose manifest cannot be read."""
        kept = self._still()
        if kept.entries is None:
            kept.entries = await asyncio.to_thread(self._store.list)
        return kept.entries

    async def one(self, text: str) -> Entry:
        """The model of this name. Raises UnknownModel."""
        try:
            name = Name.parse(text)
        except BadName as error:
            raise UnknownModel(f"no model named {text[:120]!r}", error.remedy, param="model") from error
        for entry in await self.all():
            if entry.name == name:
                return entry
        await asyncio.to_thread(self._store.resolve, name)  # which says what comes near
        raise UnknownModel(f"the model {name} is only being made", "Ask again", param="model")

    async def source(self, text: str) -> ready.Source:
        """As `ready.source` has it. Nothing is kept of other tools' models, whose files change without a word."""
        kept = self._still()
        found = kept.sources.get(text)
        if found is None:
            found = await asyncio.to_thread(ready.source, self._store, text)
            if not is_foreign(text) and len(kept.sources) < _MOST:
                kept.sources[text] = found
        return found

    def close(self) -> None:
        """Look no more."""
        self._changes.close()

    def _still(self) -> _Kept:
        """What is still so. What is read after this goes into it, and with it when something was written meanwhile."""
        mark = self._changes.mark()
        if mark is None or mark != self._mark:
            self._kept, self._mark = _Kept(), mark
        return self._kept
