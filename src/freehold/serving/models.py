"""The models of the store, read again only when something was written to its catalog."""

import asyncio

from freehold.core.errors import BadName, UnknownModel
from freehold.core.name import Name
from freehold.store import Entry, Store
from freehold.store.changes import Changes, Mark


class Models:
    """What the catalog lists. For one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes(store.catalog.path)
        self._mark: Mark | None = None
        self._entries: list[Entry] = []

    async def all(self) -> list[Entry]:
        """All models by name. Raises Damaged naming the model whose manifest cannot be read."""
        mark = self._changes.mark()
        if mark is None or mark != self._mark:
            self._entries = await asyncio.to_thread(self._store.list)
            self._mark = mark  # from before: what was written while it was read counts as new
        return self._entries

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

    def close(self) -> None:
        """Look no more."""
        self._changes.close()
