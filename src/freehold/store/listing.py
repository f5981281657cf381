"""The listing of all models: one query, which `glance` runs without SQLAlchemy. Importing that takes several times what
listing 10,000 models does."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.manifest import Details

CATALOG = "catalog.sqlite"
"""The catalog's file in the store's folder."""
SCHEMA = 2
"""The version of the catalog that QUERY is for."""
QUERY = """
SELECT names.name, names.digest, models.size, models.licence, names.modified, models.architecture, models.parameters,
    models.quantization, models.context_length, models.embedding_length
FROM names LEFT JOIN models ON names.digest = models.digest
ORDER BY names.name
"""


class Listed(msgspec.Struct, frozen=True, gc=False):
    """What listing shows of a model; `size` is in bytes, `modified` in seconds since 1970."""

    name: str
    digest: str
    size: int
    details: Details
    licence: str
    modified: float

    @classmethod
    def of_rows(cls, rows: Iterable[Any]) -> "list[Listed] | None":
        """What QUERY gave; None when a manifest was never described, as in a catalog of an earlier version."""
        found = []
        for name, digest, size, licence, modified, *details in rows:
            if size is None:
                return None
            found.append(cls(name, digest, size, Details(*details), licence, modified))
        return found


def glance(folder: Path) -> list[Listed] | None:
    """What `Store.listing` tells of the store in `folder`, for a process that wants no more of it.

    None when it needs an open store: there is none yet, it was written by another version, or it cannot be read.
    """
    try:
        address = f"{(folder / CATALOG).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            return Listed.of_rows(connection.execute(QUERY)) if version == SCHEMA else None
    except sqlite3.Error:
        return None
