"""Runs: what finished steps gave, so that none is done twice."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from freehold.core.digest import Digest
from freehold.core.errors import Damaged, NotFound

if TYPE_CHECKING:
    from freehold.store.store import Store


class Runs:
    """The results of finished steps, by key. While a step is remembered, the blobs it refers to are kept."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def remember_step(self, key: str, result: bytes, digests: Iterable[Digest] = ()) -> None:
        """Keep a step's result. `digests` are the blobs it refers to; raises NotFound when one is not in the store."""
        kept = tuple(digests)
        with self._store.lease(*kept):
            for digest in kept:
                self._store.path(digest)
            self._store.catalog.remember(key, result, kept)
        self._store.settle(kept)

    def recall_step(self, key: str) -> bytes | None:
        """A step's result; None when it is not known, or a blob it refers to is lost and it has to be done again."""
        found = self._store.catalog.recall(key)
        if found is None:
            return None
        result, digests = found
        try:
            for digest in digests:
                self._store.path(digest)
        except (NotFound, Damaged):
            return None
        return result

    def forget(self, key: str) -> bool:
        """Let the step be done again; whether it was known."""
        return self._store.catalog.forget(key)
