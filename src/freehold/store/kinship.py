"""Whether an adapter was made for a base, as far as the store knows where both come from."""

from collections.abc import Iterator

from freehold.core.digest import Digest
from freehold.core.errors import FreeholdError, Unsupported
from freehold.core.manifest import Manifest
from freehold.store.store import Store

_WEIGHTS = ("weights", "gguf")


def check(store: Store, adapter: Manifest, base: Manifest, *, label: str) -> str:
    """What to be told of an adapter beside a base that it was perhaps not made for; nothing where it was, or may be.

    `label` is BASE+ADAPTER. Raises Unsupported for a base of another width than the adapter's own.
    """
    own = next(_forebears(store, adapter.lineage.base), None)
    if own is None:
        return ""
    wide, other = own.details.embedding_length, base.details.embedding_length
    if wide and other and wide != other:
        raise Unsupported(
            f"{label}: the adapter was made for another base, {wide} wide, and this one is {other} wide",
            "Name the base that it was made for before the '+'",
            param="model",
        )
    if _marks(store, adapter.lineage.base) & _marks(store, base.digest, base):
        return ""
    return (
        f"{label}: nothing shows that the adapter was made for this base; beside another its answers are worth nothing"
    )


def _marks(store: Store, digest: Digest | None, known: Manifest | None = None) -> set[Digest]:
    """A model, all that it descends from, and the weights of each."""
    found = [*([known] if known else []), *_forebears(store, known.lineage.base if known else digest)]
    own = {digest} if digest else set()
    return (
        own
        | {each.digest for each in found}
        | {part.digest for each in found for part in each.parts if part.role in _WEIGHTS}
    )


def _forebears(store: Store, digest: Digest | None) -> Iterator[Manifest]:
    """A model and what it descends from, as far as their manifests are here."""
    seen: set[Digest] = set()
    while digest is not None and digest not in seen:
        seen.add(digest)
        try:
            manifest = store.manifest(digest)
        except FreeholdError:
            return
        yield manifest
        digest = manifest.lineage.base
