"""An .ipynb file: cells of text in JSON (nbformat 4), read and written without Jupyter."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadInput
from freehold.formats.atomic import replacing

MAX_SIZE = 1 << 28
_INSTALLS = re.compile(r"^\s*[!%]\s*(uv\s+)?(pip|pip3|conda|mamba|apt|apt-get)\b", re.MULTILINE)
_CAPTURE = re.compile(r"^\s*%%capture\b")
_CELL_MAGIC = re.compile(r"^\s*%%(\w+)")
_SHELL = re.compile(r"^(\s*)([!%].*)$")
_HARMLESS = ("time", "timeit", "html", "markdown")


class Notebook(msgspec.Struct):
    """The document as it is, and its code cells, which are parts of it."""

    document: dict[str, Any]
    cells: list[dict[str, Any]]


class Cell(msgspec.Struct, frozen=True):
    """What is to be run of a cell. `why` says why nothing is; `dropped` are lines for a shell or for IPython."""

    source: str
    why: str = ""
    dropped: tuple[str, ...] = ()


def read(path: Path) -> Notebook:
    """A notebook. Raises BadInput for what is none."""
    try:
        if path.stat().st_size > MAX_SIZE:
            raise BadInput(f"{path} is larger than a notebook can be", "Clear its outputs first")
        document = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise BadInput(f"no such notebook: {path}", "Check the path") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", "Give a file that you may read") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is no notebook: {error}", "Give an .ipynb file") from error
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise BadInput(f"{path} is no notebook of format 4: it has no cells", "Open and save it with a current Jupyter")
    return Notebook(document, [cell for cell in cells if cell.get("cell_type") == "code"])


def write(notebook: Notebook, path: Path) -> None:
    """Write the document with what its cells gave."""
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(notebook.document), indent=1) + b"\n")


def source_of(cell: dict[str, Any]) -> str:
    """A cell's text, which files keep as one string or as lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(map(str, source))


def cell_of(source: str, skip: Sequence[str] = ()) -> Cell:
    """What to run of a cell's text: nothing of cells that install, of magics, or that `skip` matches."""
    pattern = next((pattern for pattern in skip if re.search(pattern, source)), None)
    if pattern is not None:
        return Cell("", f"--skip {pattern}")
    if _CAPTURE.match(source) or _INSTALLS.search(source):
        return Cell("", "it installs or downloads")
    magic = _CELL_MAGIC.match(source)
    if magic and magic[1] not in _HARMLESS[:2]:
        return Cell("", f"%%{magic[1]} is not Python")
    kept, dropped = [], []
    for line in source.split("\n"):
        found = _SHELL.match(line)
        kept.append(f"{found[1]}pass" if found else line)
        dropped += [found[2]] if found else []
    # A string over several lines may have lines that only look so.
    return Cell(source) if dropped and _parses(source) else Cell("\n".join(kept), "", tuple(dropped))


def _parses(source: str) -> bool:
    import ast

    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True
