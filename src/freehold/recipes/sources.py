"""What a recipe starts from: its base model and its data, named by their content before anything runs."""

import shutil
from importlib import resources
from pathlib import Path

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadData, BadName, BadRecipe, Forbidden, Unsupported
from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_full
from freehold.recipes.schema import RecipeFile
from freehold.store import Store

STARTER = Name.parse("starter")
_PATHS = ("/", "./", "../", "~")


class Base(msgspec.Struct, frozen=True):
    """The base model; `folder` holds its files unless the store does."""

    manifest: Manifest
    folder: Path | None = None


def base_of(file: RecipeFile, store: Store) -> Base:
    """The model that is tuned. Raises UnknownModel, NotFound, BadModelFile, Unsupported for one without weights."""
    text = file.recipe.model.base
    place = place_of(text, file.resolve(text), store)
    if isinstance(place, Manifest):
        return Base(place)
    return _from_folder(place, licence="Apache-2.0" if place == _shipped() else "")


def place_of(text: str, folder: Path, store: Store) -> Path | Manifest:
    """Where the files of the base lie that `text` names, by its name or, as `folder`, by its path.

    Raises UnknownModel, NotFound, Unsupported.
    """
    if text.startswith(_PATHS) or (folder.is_dir() and not _known(text, store)):
        if folder.is_file():
            raise Unsupported(
                f"base {text} is a file", "Tuning needs a folder with config.json and safetensors weights"
            )
        return folder
    name = Name.parse(text)
    if name == STARTER and not any(store.catalog.bound(name)):
        shipped = _shipped()
        if shipped.is_dir():
            return shipped
    return _tunable(store.get(name), text)


def _shipped() -> Path:
    """The folder of the starter model that comes with the program."""
    with resources.as_file(resources.files("freehold.assets").joinpath("starter")) as shipped:
        return shipped


def _known(text: str, store: Store) -> bool:
    """Whether the catalog has a model of this name: it goes before a folder that happens to be called so too."""
    try:
        name = Name.parse(text)
    except BadName:
        return False
    return name == STARTER or any(store.catalog.bound(name))


def _from_folder(folder: Path, licence: str = "") -> Base:
    """The manifest that importing this folder would make."""
    from freehold.store.folders import inspect

    inspected = inspect(folder)
    parts = tuple(
        Part(role, Digest.of_file(path), path.stat().st_size, filename) for role, filename, path in inspected.members
    )
    manifest = Manifest(parts=parts, details=inspected.details, licence=licence)
    return Base(_tunable(manifest, str(folder)), folder)


def _tunable(manifest: Manifest, label: str) -> Manifest:
    if manifest.part("weights") is None:
        kind = "an adapter" if manifest.part("adapter") else "a GGUF file"
        raise Unsupported(f"base {label} is {kind}", "Tuning needs safetensors weights: pull the model's folder")
    return manifest


def data_digest(file: RecipeFile) -> Digest:
    """Of the data file, or of the generator and every Python file beside and below it. Raises BadData, BadRecipe."""
    if file.recipe.data.generator:
        return _code_digest(generator_of(file))
    return _file_digest(file.resolve(file.recipe.data.path), "path")


def held_out_digest(file: RecipeFile) -> Digest | None:
    """Of the file that is held out, where the recipe names one. Raises BadData."""
    named = file.recipe.data.held_out_path
    return _file_digest(file.resolve(named), "held_out_path") if named else None


def _file_digest(path: Path, key: str) -> Digest:
    if not path.is_file():
        raise BadData(f"no such file: {path}" if not path.exists() else f"not a file: {path}", f"Check [data] {key}")
    return Digest.of_file(path)


def generator_of(file: RecipeFile) -> Path:
    """The script that writes the data. Raises BadRecipe."""
    script = file.resolve(file.recipe.data.generator)
    if script.suffix != ".py" or not script.is_file():
        raise BadRecipe(f"[data] generator {script} is no Python script", "Name a .py file beside the recipe")
    return script


def _code_digest(script: Path) -> Digest:
    # Whatever it reads beside its code (word lists, templates) decides over its text as much as the code does.
    files = [path for path in sorted(script.parent.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return Digest.of_json(
        [script.name, *((path.relative_to(script.parent).as_posix(), Digest.of_file(path).text) for path in files)]
    )


def check_signed(file: RecipeFile, store: Store, settings: Settings) -> None:
    """The policy `require_signature`, for the base. Raises Forbidden."""
    if not settings.require_signature or file.recipe.tune.method == "scratch":
        return
    from freehold.proofs.sign.models import require

    text = file.recipe.model.base
    if base_of(file, store).folder is not None:
        raise Forbidden(f"base {text} is not in the store, so nobody signed it", "Pull it, and sign it: freehold sign")
    require(settings, store, Name.parse(text))


def check_room(file: RecipeFile, store: Store, settings: Settings) -> None:
    """Raises DiskFull, with numbers, when the file system cannot hold what the recipe makes."""
    if file.recipe.tune.method == "scratch":
        return
    size = base_of(file, store).manifest.size
    # The base, the merged or tuned copy, its GGUF and each quantised one; a checkpoint of full tuning has two moments.
    copies = 3 + len(file.recipe.quantize.types) + (6 if file.recipe.tune.method == "full" else 0)
    if shutil.disk_usage(settings.home).free < copies * size:
        raise disk_full(settings.home, copies * size)
