"""An .ipynb file: cells of text in JSON (nbformat 4), read and written without Jupyter."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadInput
from freehold.formats.atomic import replacing

MAX_SIZE = 1 << 28
_INSTALLS = re.compile(r"^\s*[!%]\s*(uv\s+)?(pip|pip3|conda|mamba|apt|apt-get)\b", re.MULTILINE)
_CELL_MAGIC = re.compile(r"^\s*%%(\w+)")
_LINE = re.compile(r"^(\s*)([!%].*)$")
_TIMED = re.compile(r"^%time\s+(?=\S)")
_PYTHON = ("capture", "time", "timeit")
"""Magics whose cells are Python all the same."""


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
    code = [cell for cell in cells if cell.get("cell_type") == "code"]
    for number, cell in enumerate(code, 1):
        if not _is_text(cell.get("source", "")):
            raise BadInput(f"{path} is no notebook: code cell {number} has no text", "Open and save it with Jupyter")
    return Notebook(document, code)


def _is_text(source: object) -> bool:
    lines = source if isinstance(source, list) else [source]
    return all(isinstance(line, str) for line in lines)


def write(notebook: Notebook, path: Path) -> None:
    """Write the document with what its cells gave."""
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(notebook.document), indent=1) + b"\n")


def source_of(cell: dict[str, Any]) -> str:
    """A cell's text, which files keep as one string or as lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def cell_of(source: str, skip: Sequence[str] = ()) -> Cell:
    """What to run of a cell's text: nothing of cells that install, of other languages, or that `skip` matches."""
    pattern = next((pattern for pattern in skip if re.search(pattern, source)), None)
    if pattern is not None:
        return Cell("", f"--skip {pattern}")
    if _wrong(source) is None:
        return Cell(source)
    if _INSTALLS.search(source):
        return Cell("", "it installs or downloads")
    magic = _CELL_MAGIC.match(source)
    if magic and magic[1] not in _PYTHON:
        return Cell("", f"%%{magic[1]} is not Python")
    return _python(source)


def _python(source: str) -> Cell:
    """Without the lines for a shell or for IPython: those at which Python stops, since texts have lines like them."""
    lines, dropped = source.split("\n"), list[str]()
    while (at := _wrong("\n".join(lines))) is not None and (found := _LINE.match(lines[at])):
        indent, said = found.groups()
        if _TIMED.match(said):
            lines[at] = indent + _TIMED.sub("", said)
            continue
        lines[at] = f"{indent}pass"
        if not said.startswith("%%"):
            dropped.append(said)
        # A shell reads on behind a backslash.
        while said.endswith("\\") and at + 1 < len(lines):
            at += 1
            said, lines[at] = lines[at], ""
    return Cell("\n".join(lines), "", tuple(dropped))


def _wrong(source: str) -> int | None:
    """The line, from 0, at which it stops being Python; None where all of it is."""
    try:
        ast.parse(source)
    except SyntaxError as error:
        return min((error.lineno or 1) - 1, source.count("\n"))
    except (ValueError, RecursionError, MemoryError):
        return 0
    return None
