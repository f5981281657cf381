"""Adapters of Modelfiles: GGUF files as they are, PEFT folders converted for their base, and that as GGUF too."""

from pathlib import Path
from typing import Protocol

import msgspec

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.manifest import Manifest, Part
from freehold.core.paths import there
from freehold.formats import gguf
from freehold.formats.reading import bad_file, shown
from freehold.store.folders import ADAPTER_CONFIG, plain_name
from freehold.store.importing import materialise
from freehold.store.store import Store

_IN_GGUF = {
    "weights",
    "weights_index",
    "config",
    "generation_config",
    "tokenizer",
    "tokenizer_config",
    "chat_template",
}
"""Parts whose content a GGUF file has in itself."""


class Converter(Protocol):
    """What `freehold.convert` does, which stands above the store."""

    def to_gguf(self, folder: Path, out: Path, *, dtype: str = "auto", tools: Path | None = None) -> None:
        """A folder of safetensors weights to a GGUF file."""
        ...

    def adapter_to_gguf(self, folder: Path, base: Path, out: Path, *, dtype: str = "auto") -> None:
        """A folder of a PEFT adapter to a GGUF adapter for the model in the folder `base`."""
        ...


def check(path: Path) -> None:
    """Raises BadInput and BadModelFile for what is no adapter."""
    if there(path) and path.is_dir():
        if not (path / ADAPTER_CONFIG).exists():
            raise BadInput(f"ADAPTER {shown(path, 400)} is a folder without {ADAPTER_CONFIG}", "Name a PEFT adapter")
        return
    if not there(path) or not path.is_file():
        raise BadInput(f"ADAPTER {shown(path, 400)} is not there", "Give a GGUF file, or a folder that PEFT wrote")
    if gguf.read_header(path).metadata.get("general.type") != "adapter":
        raise bad_file(path, "not an adapter", "Give a GGUF file of type adapter")


def as_gguf(store: Store, manifest: Manifest, filename: str, converter: Converter) -> Manifest:
    """A model of safetensors as one GGUF file, with what else it has; another one is as it is. Raises Unsupported."""
    if manifest.part("gguf") is not None:
        return manifest
    with store.room() as room:
        materialise(store, manifest, room / "model")
        converter.to_gguf(room / "model", room / filename, tools=store.tools)
        digest, size = store.add_file(room / filename, move=True)
    details = gguf.read_header(store.path(digest)).details()
    others = tuple(part for part in manifest.parts if part.role not in _IN_GGUF)
    return msgspec.structs.replace(manifest, parts=(Part("gguf", digest, size, filename), *others), details=details)


def add(store: Store, path: Path, base: Manifest, number: int, converter: Converter) -> Part:
    """Keep an adapter, converted if it is a folder: for that the base's safetensors must be in the store.

    `base` is the model as FROM named it. Raises Unsupported, BadModelFile and DiskFull.
    """
    if not path.is_dir():
        digest, size = store.add_file(path)
        return Part("adapter", digest, size, path.name if plain_name(path.name) else f"adapter{number}.gguf")
    weights = _weights(store, base)
    name = path.absolute().name
    filename = f"{name}.gguf" if plain_name(f"{name}.gguf") else f"adapter{number}.gguf"
    with store.room() as room:
        materialise(store, weights, room / "base")
        converter.adapter_to_gguf(path, room / "base", room / filename)
        digest, size = store.add_file(room / filename, move=True)
    return Part("adapter", digest, size, filename)


def _weights(store: Store, base: Manifest) -> Manifest:
    """The model, or the one that it was made from, with its safetensors."""
    if base.part("weights") is not None:
        return base
    try:
        origin = store.manifest(base.lineage.base) if base.lineage.base is not None else None
    except FreeholdError:
        origin = None
    if origin is None or origin.part("weights") is None:
        raise Unsupported(
            "an adapter in a folder is converted by the names in its base's safetensors, which are not in the store",
            "Name the base's folder in FROM, or convert the adapter: freehold convert ADAPTER OUT.gguf --base FOLDER",
        )
    return origin
