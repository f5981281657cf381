"""Places that models come from: one module each, called after the kind of Reference that it serves.

look(reference, outbound) -> Offer       what there is to take, pinned to one version; fetches listings, no model

Fetching and taking in are the same for all: `pulling`. To add a source, add a module and its kind to core/reference.
"""

from importlib import import_module
from typing import Protocol, cast

from freehold.core.reference import Reference
from freehold.store.outbound import Outbound
from freehold.store.sources.offer import Local, Offer


class Source(Protocol):
    """What each module here is."""

    def look(self, reference: Reference, outbound: Outbound) -> Offer:
        """What the reference means now. Raises NotFound, Forbidden, Unsupported, SourceFailed."""
        ...


def source(reference: Reference) -> Source:
    """The module for this kind of reference."""
    return cast(Source, import_module(f"{__package__}.{reference.kind}"))


__all__ = ["Local", "Offer", "Source", "source"]
