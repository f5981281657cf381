"""Other tools' stores, read in place. One file per tool; a tool registers itself by its file being here.

installed() -> [Neighbour]     everything(environ) -> [Found], unusable ones with their problem
lookup("ollama::llama3:8b") -> Found, or UnknownModel     inspect(found) -> Details, or what is wrong with its file

A model there is named TOOL::ID. No catalog name has two colons in a row, so the two never mix. Nothing in these folders
is written, and what a tool keeps in a form that this version does not know is reported, never guessed.
"""

import importlib
import os
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from freehold.core.errors import FreeholdError, UnknownModel, Unsupported
from freehold.core.manifest import Details
from freehold.core.name import SEPARATOR
from freehold.formats.reading import shown
from freehold.store import splits
from freehold.store.neighbours.base import Found, Neighbour

__all__ = ["Found", "Neighbour", "everything", "inspect", "installed", "is_foreign", "lookup", "named"]


@cache
def installed() -> tuple[Neighbour, ...]:
    """The tools that are known: each module here that holds a NEIGHBOUR."""
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name != "base")
    found = (getattr(importlib.import_module(f"{__name__}.{name}"), "NEIGHBOUR", None) for name in modules)
    return tuple(neighbour for neighbour in found if neighbour is not None)


def named(tool: str) -> Neighbour:
    """The tool of this name. Raises Unsupported."""
    for neighbour in installed():
        if neighbour.name == tool:
            return neighbour
    known = ", ".join(neighbour.name for neighbour in installed())
    raise Unsupported(f"no tool called {shown(tool)!r} is known", f"Known are: {known}")


def is_foreign(text: str) -> bool:
    """Whether `text` names a model in another tool's store."""
    return SEPARATOR in text


def everything(environ: Mapping[str, str] = os.environ, tool: str = "") -> list[Found]:
    """What the tools (or the one named) keep, in the order of their labels. Raises Unsupported for an unknown tool."""
    chosen = (named(tool),) if tool else installed()
    found = [each for neighbour in chosen for each in _scan(neighbour, environ)]
    return sorted(found, key=lambda each: each.label)


def _scan(neighbour: Neighbour, environ: Mapping[str, str]) -> list[Found]:
    found: dict[str, Found] = {}
    for root in neighbour.roots(environ):
        try:
            for each in neighbour.models(root) if root.exists() else ():
                # The first root wins, as it does for the tool itself; a usable model before one that is not.
                if each.id not in found or (found[each.id].problem and not each.problem):
                    found[each.id] = each
        except OSError as error:
            problem = f"{shown(root, 400)} cannot be read: {error.strerror}"
            found[str(root)] = Found(tool=neighbour.name, id=shown(root, 400), problem=problem)
    return list(found.values())


def lookup(text: str, environ: Mapping[str, str] = os.environ) -> Found:
    """The model that TOOL::ID names; the beginning of an ID up to '/' or ':' will do where only one has it.

    Raises UnknownModel naming what there is, and Unsupported for an unknown tool or a model that cannot be used.
    """
    tool, _, wanted = text.partition(SEPARATOR)
    models = everything(environ, tool)
    chosen = [each for each in models if each.id == wanted]
    chosen = chosen or [each for each in models if each.id.startswith((f"{wanted}/", f"{wanted}:"))]
    if len(chosen) > 1:
        latest = [each for each in chosen if each.id == f"{wanted}:latest"]
        chosen = latest or chosen
    if len(chosen) != 1:
        raise UnknownModel(f"{_count(chosen)} {shown(text)!r}", _hint(chosen or models))
    if chosen[0].problem:
        raise Unsupported(f"{chosen[0].label} cannot be used: {chosen[0].problem}", "Use another model")
    return chosen[0]


def _count(chosen: list[Found]) -> str:
    return f"{len(chosen)} models begin with" if chosen else "there is no model"


def _hint(models: list[Found]) -> str:
    labels = [each.label for each in models if not each.problem]
    if not labels:
        return "'freehold list --all' shows what other tools keep"
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return f"There are: {', '.join(labels[:5])}{more}"


def inspect(found: Found) -> Details:
    """The facts in its header. Raises what is wrong with the file or folder, and Unsupported."""
    if found.problem or found.path is None:
        raise Unsupported(f"{found.label} cannot be used: {found.problem}", "Use another model")
    try:
        if found.path.is_dir():
            return _folder(found.path)
        files = splits.files(found.path)
        return splits.check(files, files)
    except OSError as error:
        raise FreeholdError(f"{found.label} cannot be read: {error.strerror}", "Check its permissions") from error


def _folder(path: Path) -> Details:
    from freehold.store import folders

    details = folders.inspect(path).details
    config = path / folders.CONFIG
    if config.exists() and "quantization" in folders.read_json(config):
        raise Unsupported("its weights are quantised for MLX, which does not run here", "Use a GGUF file of the model")
    return details
