"""The folder of a recipe's runs: what its tasks were last made of, and a journal for people."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_errors, replacing
from freehold.recipes.schema import RecipeFile

if TYPE_CHECKING:
    from freehold.recipes.plan import Ingredients

_HISTORY = "last.json"
_JOURNAL = "journal.jsonl"


def slug(name: Name) -> str:
    """A model's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", str(name))


def folder_of(file: RecipeFile, settings: Settings) -> Path:
    """Where the runs of this recipe file keep what people read: one folder for each name and recipe file."""
    return settings.runs / f"{slug(file.recipe.name)}-{Digest.of_bytes(os.fsencode(file.path)).hex[:8]}"


def read_history(file: RecipeFile, settings: Settings) -> "dict[str, Ingredients]":
    """What each task of this recipe was last made of; empty when nobody knows."""
    from freehold.recipes.plan import Ingredients

    try:
        return msgspec.json.decode((folder_of(file, settings) / _HISTORY).read_bytes(), type=dict[str, Ingredients])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def write_history(folder: Path, history: "Mapping[str, Ingredients]") -> None:
    """Keep what each task was last made of."""
    with replacing(folder / _HISTORY) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(history), indent=1))


def journal(folder: Path, **entry: Any) -> None:
    """Add a line to the journal: what happened, when, and how long it took."""
    line = msgspec.json.encode({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry})
    with disk_errors(folder), (folder / _JOURNAL).open("ab") as file:
        file.write(line + b"\n")
