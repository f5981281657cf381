"""base: the files of the model that is tuned."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from freehold.core.manifest import Manifest, Role
from freehold.recipes.schema import RecipeFile
from freehold.recipes.sources import base_of
from freehold.recipes.task import Output, Result, Step, Task, Work
from freehold.store import Store

PREFIX = "model"
BESIDE: dict[Role, str] = {"gguf": "model.gguf", "chat_template": "chat_template.jinja"}
"""The parts of a base that stays as it is, and what they are called where the trainer looks."""


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, unless the model is trained from nothing."""
    if file.recipe.tune.method != "scratch":
        yield Task("base", "base", (), {"base": base_of(file, store).manifest.digest.text})


def run(work: Work) -> Result:
    """The base's files in the store, and its manifest."""
    base = base_of(work.file, work.store)
    for path in base.paths:
        work.store.add_file(path)
    parts = tuple(Output(f"{PREFIX}/{part.filename}", part.digest, part.size) for part in base.manifest.parts)
    manifest = work.keep_bytes(base.manifest.encode(), "manifest.json")
    return Result(files=(manifest, *parts), facts={"parameters": base.manifest.details.parameters})


def manifest_of(work: Work) -> Manifest:
    """The manifest of a needed base."""
    return Manifest.decode(work.input("manifest.json", "base").read_bytes())


def folder_of(work: Work) -> Path:
    """A needed base's files as an ordinary folder."""
    from freehold.store.importing import materialise

    if not work.file.adapted:
        return work.unpack("base", PREFIX)
    folder = work.folder / "base"
    materialise(work.store, beside(manifest_of(work)), folder)
    return folder


def beside(base: Manifest) -> Manifest:
    """What the trainer reads of a base that is a GGUF file, under the names that it looks for."""
    parts = (part for part in base.parts if part.role in BESIDE)
    return Manifest(parts=tuple(msgspec.structs.replace(part, filename=BESIDE[part.role]) for part in parts))


STEP = Step("base", tasks, run, order=10)
