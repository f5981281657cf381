"""Adapters of Modelfiles: GGUF files as they are, PEFT folders converted for their base, and that as GGUF too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.manifest import Manifest, Part
from freehold.core.paths import there
from freehold.formats import gguf
from freehold.formats.reading import bad_file, shown
from freehold.store import splits
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
_SIDES = {("lora_a", False): (0, 0), ("lora_b", False): (1, 1), ("lora_a", True): (1, 1), ("lora_b", True): (1, 0)}
"""Which extent of a half is which of its matrix; an embedding is looked up, so there they lie differently."""


class Converter(Protocol):
    """What `freehold.convert` does, which stands above the store."""

    def to_gguf(self, folder: Path, out: Path, *, dtype: str = "auto", tools: Path | None = None) -> None:
        """A folder of safetensors weights to a GGUF file."""
        ...

    def adapter_to_gguf(self, folder: Path, base: Path, out: Path, *, dtype: str = "auto") -> None:
        """A folder of a PEFT adapter to a GGUF adapter for the model in the folder or GGUF file `base`."""
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


def check_fits(store: Store, path: Path, base: Manifest) -> None:
    """Raises BadModelFile for a GGUF adapter that was made for another model than `base`, which has a GGUF file."""
    if path.is_dir():
        return
    adapter, files = gguf.read_header(path), [store.path(part.digest) for part in base.parts if part.role == "gguf"]
    model = splits.header(files, files)
    known = {tensor.name: tensor.shape for tensor in model.tensors}
    wrong = None if adapter.architecture == model.architecture else f"is for a {shown(adapter.architecture)}"
    wrong = wrong or next(filter(None, (_misfit(tensor, known) for tensor in adapter.tensors)), None)
    if wrong is not None:
        raise bad_file(
            path, f"{wrong}, where the model in FROM is a {model.architecture}", "Name the adapter's own base"
        )


def _misfit(tensor: gguf.TensorInfo, known: Mapping[str, tuple[int, ...]]) -> str | None:
    """What is wrong with one half of a pair: A takes what the matrix takes, B gives what it gives."""
    matrix, _, half = tensor.name.rpartition(".")
    sides = _SIDES.get((half, matrix == "token_embd.weight"))
    if sides is None:
        return None
    shape = known.get(matrix)
    if shape is None:
        return f"changes {shown(matrix)}, which is not there"
    fits = len(tensor.shape) > 1 and len(shape) > 1 and tensor.shape[sides[0]] == shape[sides[1]]
    return None if fits else f"changes {shown(matrix)} in another shape"


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
    """Keep an adapter, converted if it is a folder, by the base's safetensors where the store has them.

    `base` is the model as FROM named it. Raises Unsupported, BadModelFile and DiskFull.
    """
    if not path.is_dir():
        digest, size = store.add_file(path)
        return Part("adapter", digest, size, path.name if plain_name(path.name) else f"adapter{number}.gguf")
    name = path.absolute().name
    filename = f"{name}.gguf" if plain_name(f"{name}.gguf") else f"adapter{number}.gguf"
    with store.room() as room:
        converter.adapter_to_gguf(path, _origin(store, base, room / "base"), room / filename)
        digest, size = store.add_file(room / filename, move=True)
    return Part("adapter", digest, size, filename)


def _origin(store: Store, base: Manifest, room: Path) -> Path:
    """The folder or file by which an adapter of `base` is converted; `room` is for the folder. Raises Unsupported."""
    weights = _weights(store, base)
    if weights is not None:
        materialise(store, weights, room)
        return room
    files = [part for part in base.parts if part.role == "gguf"]
    if len(files) != 1:
        raise Unsupported(
            "an adapter in a folder is converted by its base's safetensors or one GGUF file, and the base has neither",
            "Name the base's folder in FROM, or convert the adapter: freehold convert ADAPTER OUT.gguf --base FOLDER",
        )
    return store.path(files[0].digest)


def _weights(store: Store, base: Manifest) -> Manifest | None:
    """The model, or the one that it was made from, with its safetensors."""
    if base.part("weights") is not None:
        return base
    try:
        origin = store.manifest(base.lineage.base) if base.lineage.base is not None else None
    except FreeholdError:
        return None
    return None if origin is None or origin.part("weights") is None else origin
