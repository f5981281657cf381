"""List the models."""

import time
from typing import TYPE_CHECKING, Any

from freehold.cli._options import Home, Json, opened
from freehold.cli._output import ago, count, emit, size, table

if TYPE_CHECKING:
    from freehold.store import Entry


def command(json: Json = False, home: Home = None) -> None:
    """List the models."""
    with opened(home) as (_, store):
        entries = sorted(store.list(), key=lambda entry: entry.name)
    if json:
        emit([describe(entry) for entry in entries])
    else:
        table(["NAME", "SIZE", "TYPE", "PARAMS", "CONTEXT", "MODIFIED"], [_row(entry) for entry in entries])


def _row(entry: "Entry") -> list[str]:
    details = entry.manifest.details
    return [
        str(entry.name),
        size(entry.manifest.size),
        details.quantization,
        count(details.parameters),
        str(details.context_length or ""),
        ago(time.time() - entry.modified),
    ]


def describe(entry: "Entry") -> dict[str, Any]:
    """A catalog entry as `--json` shows it; sizes in bytes, times in seconds since 1970."""
    details = entry.manifest.details
    return {
        "name": str(entry.name),
        "digest": str(entry.digest),
        "size": entry.manifest.size,
        "architecture": details.architecture,
        "quantization": details.quantization,
        "parameters": details.parameters,
        "context_length": details.context_length,
        "licence": entry.manifest.licence,
        "modified": round(entry.modified),
    }
