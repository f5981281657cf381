"""What a notebook's process is asked, and what it answers."""

import ast
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


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


def encode(value: NotebookJob | Ran) -> bytes:
    """As JSON; the user's values as Python spells them, which has more kinds of them than JSON."""
    if isinstance(value, NotebookJob):
        value = msgspec.structs.replace(value, values={name: repr(each) for name, each in value.values.items()})
    return msgspec.json.encode(value, enc_hook=str)


def decode(data: bytes, kind: type[T]) -> T:
    """The value of type `kind` that `encode` wrote."""
    value = msgspec.json.decode(data, type=kind, dec_hook=_path)
    if isinstance(value, NotebookJob):
        spelt = value.values
        value = msgspec.structs.replace(value, values={name: ast.literal_eval(each) for name, each in spelt.items()})
    return value


def _path(kind: type, value: Any) -> Any:
    return Path(value) if kind is Path else kind(value)
