"""Model families, one file each.

A family module has ARCHITECTURES (the names in config.json that it converts) and
`plan(config, weights) -> FamilyPlan`: which metadata and which tensors the GGUF file gets. Being there registers it.
One that can be read back too has GGUF (llama.cpp's names of its architectures) and `config(keys)`: what of config.json
is its own.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, Protocol, cast

from freehold.convert.config import Config
from freehold.convert.keys import Keys
from freehold.convert.plan import FamilyPlan
from freehold.convert.weights import Weights
from freehold.core.errors import Unsupported
from freehold.formats.reading import shown


class Family(Protocol):
    """What a module of this package offers."""

    ARCHITECTURES: tuple[str, ...]

    def plan(self, config: Config, weights: Weights) -> FamilyPlan:
        """What to write. Raises BadModelFile for missing or misshapen tensors, Unsupported."""
        ...


class Readable(Family, Protocol):
    """A family whose GGUF files say enough to read them back."""

    GGUF: tuple[str, ...]

    def config(self, keys: Keys) -> dict[str, Any]:
        """The part of config.json that not every family has. Raises BadModelFile."""
        ...


def _families() -> Iterator[Family]:
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        yield cast(Family, importlib.import_module(f"{__name__}.{module.name}"))


def names() -> frozenset[str]:
    """The architectures that are converted here, as config.json calls them."""
    return frozenset(architecture for found in _families() for architecture in found.ARCHITECTURES)


def classifies(config: Config) -> bool:
    """Whether the model says which of several labels a text has. One with a single label is a ranker."""
    labels = config.values.get("id2label")
    several = isinstance(labels, dict) and len(labels) > 1
    return several and config.architecture().endswith("ForSequenceClassification")


def family(config: Config) -> Family:
    """The family that converts this model. Raises Unsupported, listing what is supported."""
    name = config.architecture()
    known = {architecture: found for found in _families() for architecture in found.ARCHITECTURES}
    if name not in known and classifies(config):
        raise Unsupported(f"{shown(name)} is a classifier, which writes no text", "Ask it: freehold classify NAME TEXT")
    if name not in known:
        raise Unsupported(
            f"architecture {shown(name)} is not supported; supported: {', '.join(sorted(known))}",
            "Convert it with llama.cpp's own converter and import the GGUF file",
        )
    return known[name]


def of_gguf(architecture: str) -> Readable:
    """The family of a GGUF file. Raises Unsupported, listing what can be read back."""
    known = {name: found for found in _readable() for name in found.GGUF}
    if architecture not in known:
        raise Unsupported(
            f"GGUF files of architecture {shown(architecture)} cannot be read back; {', '.join(sorted(known))} can",
            "Use the model's folder of safetensors weights",
        )
    return known[architecture]


def _readable() -> Iterator[Readable]:
    return (cast(Readable, found) for found in _families() if hasattr(found, "GGUF"))
