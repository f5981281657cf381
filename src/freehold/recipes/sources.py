"""What a recipe starts from: its base model and its data, named by their content before anything runs."""

import shutil
from functools import lru_cache
from importlib import resources
from pathlib import Path

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadData, BadModelFile, BadName, BadRecipe, Forbidden, Unsupported
from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_full
from freehold.formats.reading import shown
from freehold.recipes.schema import RecipeFile
from freehold.store import Store

STARTER = Name.parse("starter")
_NO_DORA = 'Write method = "lora", or tune the model\'s folder of safetensors weights'
_CLASSIFIER = "ForSequenceClassification"
"""How transformers' classes of models end that have a score for each label in the place of the head."""
_PATHS = ("/", "./", "../", "~")


class Base(msgspec.Struct, frozen=True):
    """The base model. `paths` are where its parts lie, in their order, unless the store has them."""

    manifest: Manifest
    paths: tuple[Path, ...] = ()

    @property
    def gguf(self) -> bool:
        """Whether it is a GGUF file: it stays as it is, and an adapter is put beside it."""
        return self.manifest.part("weights") is None


def base_of(file: RecipeFile, store: Store) -> Base:
    """The model that is tuned. Raises UnknownModel, NotFound, BadModelFile, Unsupported for one that cannot be."""
    text, adapts = file.recipe.model.base, file.recipe.tune.adapts
    place = place_of(text, file.resolve(text), store)
    return _tunable(_read(place), text, store, adapts=adapts)


def place_of(text: str, path: Path, store: Store) -> Path | Manifest:
    """Where the files of the base lie that `text` names, by its name or, as `path`, by its path.

    Raises UnknownModel, BadName.
    """
    if text.startswith(_PATHS) or (path.exists() and not _known(text, store)):
        return path
    name = Name.parse(text)
    if name == STARTER and not any(store.catalog.bound(name)):
        shipped = _shipped()
        if shipped.is_dir():
            return shipped
    return store.get(name)


def _shipped() -> Path:
    """The folder of the starter model that comes with the program."""
    with resources.as_file(resources.files("freehold.assets").joinpath("starter")) as shipped:
        return shipped


def _read(place: Path | Manifest) -> Base:
    if isinstance(place, Manifest):
        return Base(place)
    if place.is_file():
        return _from_file(place)
    return _from_folder(place, licence="Apache-2.0" if place == _shipped() else "")


def settled(file: RecipeFile, store: Store) -> RecipeFile:
    """The recipe as its base has it: of a GGUF file nothing is merged or quantised. Raises BadRecipe for asking so."""
    if not file.recipe.tune.adapts or not base_of(file, store).gguf:
        return file
    base = f"{file.path}: base {file.recipe.model.base} is a GGUF file, which stays as it is with an adapter beside it"
    if "dora" in file.recipe.tune.methods:
        raise BadRecipe(f"{base}, and an adapter of method dora has lengths that llama.cpp does not know", _NO_DORA)
    if file.recipe.tune.base_dtype != "stored":
        raise BadRecipe(f"{base}, so [tune] base_dtype cannot be {file.recipe.tune.base_dtype}", "Remove it")
    if file.recipe.tune.backend != "freehold":
        raise BadRecipe(f"{base}, so [tune] backend cannot be {file.recipe.tune.backend}", "Remove it")
    if file.recipe.release.quantization or (file.recipe.quantize.types and file.says("quantize", "types")):
        raise BadRecipe(f"{base}, so nothing can be quantised", "Write types = [] and no [release] quantization")
    quantize = msgspec.structs.replace(file.recipe.quantize, types=())
    recipe = msgspec.structs.replace(file.recipe, quantize=quantize)
    return msgspec.structs.replace(file, recipe=recipe, adapted=True)


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
    return Base(manifest, tuple(path for _, _, path in inspected.members))


def _from_file(path: Path) -> Base:
    """The same of a GGUF file."""
    status = path.stat()
    return _of_content(path, (status.st_size, status.st_mtime_ns, status.st_ino))


@lru_cache(maxsize=8)
def _of_content(path: Path, stamp: tuple[int, ...]) -> Base:
    """Reading all of a large file takes a while, and a plan asks several times."""
    from freehold.store import splits
    from freehold.store.importing import gguf_licence, gguf_names

    header = splits.header([path], [path], kinds=("model", "adapter"))
    adapter = header.metadata.get("general.type") == "adapter"
    (filename,) = gguf_names([path.name], Name.parse("base"))
    part = Part("adapter" if adapter else "gguf", Digest.of_file(path), stamp[0], filename)
    return Base(Manifest(parts=(part,), details=header.details(), licence=gguf_licence(path)), (path,))


def _tunable(base: Base, label: str, store: Store, *, adapts: bool) -> Base:
    """The base, if it can be tuned with the recipe's method. Raises Unsupported, BadModelFile."""
    manifest = base.manifest
    files = [part for part in manifest.parts if part.role == "gguf"]
    if manifest.part("weights") is not None:
        _check_writes(base, label, store)
        return base
    if not files:
        raise Unsupported(f"base {label} is an adapter", "Name the model that it belongs to")
    if not adapts:
        raise Unsupported(
            f"base {label} is a GGUF file, whose weights stay as they are",
            'Write method = "lora", or pull the model\'s folder of safetensors weights',
        )
    if len(files) > 1 or manifest.part("adapter") is not None:
        kind = "in several files" if len(files) > 1 else "a model with an adapter already"
        raise Unsupported(f"base {label} is {kind}", "Name a model of one GGUF file")
    _check_known(base.paths[0] if base.paths else store.path(files[0].digest), files[0].digest, label)
    return base


def _check_writes(base: Base, label: str, store: Store) -> None:
    """Whether a folder's model says what comes next. Raises Unsupported for one that says a label."""
    from freehold.convert.config import Config

    at = next((at for at, part in enumerate(base.manifest.parts) if part.role == "config"), None)
    if at is None:
        return
    config = Config.read(base.paths[at] if base.paths else store.path(base.manifest.parts[at].digest))
    name = config.architecture() if config.values.get("architectures") else ""
    if name.endswith(_CLASSIFIER):
        raise Unsupported(
            f"base {label} is a classifier ({shown(name)}), and only models that write text are tuned",
            "Name the model that it was made of",
        )


@lru_cache(maxsize=8)
def _check_known(path: Path, digest: Digest, label: str) -> None:
    """Whether the trainer knows what is in a GGUF file. Raises Unsupported, BadModelFile."""
    from freehold.convert import origin

    try:
        origin.read(path)
    except (Unsupported, BadModelFile) as error:
        text = error.message.replace(shown(path, 400), label)
        raise type(error)(f"base {label}: {text.removeprefix(f'{label}: ')}", error.remedy) from error


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
    if base_of(file, store).paths:
        raise Forbidden(f"base {text} is not in the store, so nobody signed it", "Pull it, and sign it: freehold sign")
    require(settings, store, Name.parse(text))


def check_room(file: RecipeFile, store: Store, settings: Settings) -> None:
    """Raises DiskFull, with numbers, when the file system cannot hold what the recipe makes."""
    if file.recipe.tune.method == "scratch":
        return
    base = base_of(file, store)
    size = base.manifest.size
    if base.gguf:
        if base.paths and shutil.disk_usage(settings.home).free < size:
            raise disk_full(settings.home, size)
        return
    # The base, the merged or tuned copy, its GGUF and each quantised one; a checkpoint of full tuning has two moments.
    copies = 3 + len(file.recipe.quantize.types) + (6 if file.recipe.tune.method == "full" else 0)
    if shutil.disk_usage(settings.home).free < copies * size:
        raise disk_full(settings.home, copies * size)
