"""Options that several verbs share, so that they read the same everywhere, and the store that they open."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.core.errors import BadInput, NotFound
from freehold.core.name import PLUS, SEPARATOR, Name
from freehold.core.settings import Settings, load

if TYPE_CHECKING:
    from freehold.store import Listed, Store

Home = Annotated[
    Path | None, typer.Option("--home", help="Where everything is kept (FREEHOLD_HOME, else ~/.freehold).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
Model = Annotated[str, typer.Argument(metavar="NAME", help="A model's name, as 'freehold list' shows it.")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="ROLE=NAME", help="Whose text a column is, as user=question.")
]
Kind = Annotated[
    str, typer.Option(metavar="KIND", help="What a row is: chat, preference, judged, prompt, text, labelled, pair.")
]
Format = Annotated[str, typer.Option(metavar="FORMAT", help="csv, json, jsonl, parquet, xlsx, text or pdf.")]


def columns_of(options: list[str] | None) -> dict[str, str]:
    """Role to column, as --column says. Raises BadInput."""
    return dict(_pair(each) for each in options or ())


def _pair(text: str) -> tuple[str, str]:
    role, sign, name = text.partition("=")
    if not sign or not role or not name:
        raise BadInput(f"--column {text!r} is no ROLE=NAME", "As in --column user=question --column assistant=answer")
    return role, name


def full_name(text: str) -> str:
    """A model's name as it is written in full; BASE+ADAPTER is two, and TOOL::NAME is the tool's. Raises BadName."""
    return text if SEPARATOR in text else PLUS.join(str(Name.parse(each)) for each in text.split(PLUS, 1))


def require_writable(*files: Path | None) -> None:
    """Files that are written when all is done: what would keep them from it is said now. Raises NotFound, BadInput."""
    for file in files:
        if file is not None and file.is_dir():
            raise BadInput(f"{file} is a folder", "Name a file")
        if file is not None and not file.parent.is_dir():
            raise NotFound(f"there is no folder {file.parent}", "Make it first")
        if file is not None and not os.access(file.parent, os.W_OK | os.X_OK):
            raise BadInput(f"nothing can be written to {file.parent}", "Check its permissions, or name another folder")


def finite(value: float | None) -> float | None:
    """For the callback of an option that takes a float: its bounds let NaN pass. Raises typer.BadParameter."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number to go by.")
    return value


def all_finite(values: list[float] | None) -> list[float] | None:
    """The same for an option that may be given several times."""
    for value in values or ():
        finite(value)
    return values


@contextmanager
def opened(home: Path | None, **flags: Any) -> "Iterator[tuple[Settings, Store]]":
    """The settings in force and the store, with the starter model in it."""
    from freehold.serving.starter import ensure_starter
    from freehold.store import Store

    settings = load({"home": home, **flags})
    with Store.open(settings.store, quota=settings.quota) as store:
        ensure_starter(store)
        yield settings, store


def listed(home: Path | None) -> "Sequence[Listed]":
    """All models, the starter model among them; the store is opened only where its catalog alone does not tell."""
    from freehold.serving.starter import STARTER
    from freehold.store.listing import glance

    found = glance(load({"home": home}).store)
    if found is not None and any(each.name == str(STARTER) for each in found):
        return found
    with opened(home) as (_, store):
        return store.listing()
