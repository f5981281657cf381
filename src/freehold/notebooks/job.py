"""What a notebook's process is asked, and what it answers."""

from pathlib import Path
from typing import Any

import msgspec


class NotebookJob(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a notebook."""

    notebook: Path
    out: Path
    """Where it is written with its outputs."""
    home: Path
    work: Path
    """A folder for weights on the way; removed afterwards."""
    model: str = ""
    """The local model that stands for every model of a hub."""
    data: str = ""
    """The local file that stands for every data set of a hub."""
    values: dict[str, Any] = {}
    """Variables, and arguments of what is stood in for, that have these values whatever the notebook says."""
    skip: tuple[str, ...] = ()
    """Patterns of cells that are not run."""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """How it went. `cell` counts code cells from 1."""

    cells: int
    skipped: int
    out: Path
    seconds: float
    unused: tuple[str, ...] = ()
    """Values that nothing asked for."""
    error: str = ""
    cell: int = 0
