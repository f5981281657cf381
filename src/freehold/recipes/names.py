"""The names that a run binds: none is its base's, and none is taken from a model that was not made under it."""

import tomllib
from collections.abc import Iterator

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadName, Conflict, FreeholdError
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.recipes.records import Kind
from freehold.recipes.schema import Recipe, RecipeFile
from freehold.recipes.sources import STARTER
from freehold.store import Store

UNQUANTISED, ADAPTER_ALONE = "weights", "adapter"


def variant(name: Name, suffix: str) -> Name:
    """The name of a model's other form."""
    return Name(name.org, name.model, suffix if name.tag == "latest" else f"{name.tag}-{suffix}")


def check_own(recipe: Recipe) -> None:
    """Whether what comes out is called other than the base. Raises BadInput."""
    base = _base(recipe)
    for name in (recipe.name, *_tagged(recipe)):
        if name == base:
            raise BadInput(f"{name} is the base's own name", "Give what comes out another name")


def check_free(file: RecipeFile, store: Store, kind: Kind) -> None:
    """Whether a settled recipe may bind what it is going to. Raises Conflict for the name of another model."""
    for name in _bound(file, kind):
        bound = store.catalog.bound(name)
        if name == STARTER and file.recipe.tune.method != "scratch" and not bound:
            raise Conflict(f"{name} is the model that comes with Freehold", "Give what comes out another name")
        for each in bound:
            _check_free(name, each.digest, store)


def _base(recipe: Recipe) -> Name | None:
    """The base's name, where it may be one."""
    if recipe.tune.method == "scratch":
        return None
    try:
        return Name.parse(recipe.model.base)
    except BadName:
        return None


def _bound(file: RecipeFile, kind: Kind) -> Iterator[Name]:
    recipe, name = file.recipe, file.recipe.name
    yield name
    merges = recipe.tune.embeds or "dora" in recipe.tune.methods  # see `tuning`: what is kept beside an adapter
    suffixes = [ADAPTER_ALONE] if kind == "tune" and merges and recipe.tune.adapts else []
    if kind == "make":
        yield from _tagged(recipe)
        suffixes += _kept(file) if recipe.quantize.keep else []
    yield from (variant(name, suffix) for suffix in suffixes)


def _tagged(recipe: Recipe) -> Iterator[Name]:
    return (Name(recipe.name.org, recipe.name.model, tag) for tag in recipe.release.tags)


def _kept(file: RecipeFile) -> list[str]:
    recipe = file.recipe
    smaller = [each.lower() for each in recipe.quantize.types if each != recipe.released_type]
    return [*smaller, ADAPTER_ALONE if file.adapted else UNQUANTISED]


def _check_free(name: Name, digest: Digest, store: Store) -> None:
    try:
        manifest = store.manifest(digest)
    except FreeholdError:  # what is lost or damaged may be made again
        return
    made = _made_as(manifest, store)
    if made is None:
        raise Conflict(f"{name} is a model that was not made by a recipe, and would lose its name", _taken(name))
    if (made.org, made.model) != (name.org, name.model):
        raise Conflict(f"{name} is a model that was made as {made}, and would lose this name", _taken(name))


def _taken(name: Name) -> str:
    return f"Give what comes out another name, or free this one: freehold rm {name}"


def _made_as(manifest: Manifest, store: Store) -> Name | None:
    """The name in the recipe of a model; None for one that was pulled, converted or composed."""
    if manifest.lineage.recipe is None:
        return None
    try:
        source = store.path(manifest.lineage.recipe).read_bytes()
        return Name.parse(tomllib.loads(source.decode("utf-8"))["model"]["name"])
    except (FreeholdError, ValueError, LookupError, TypeError, AttributeError):  # a bundle may bring anything
        return None
