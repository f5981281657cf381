"""Folders of safetensors models and PEFT adapters: which files belong to the model, and whether they fit together."""

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from freehold.core.errors import BadModelFile, NotFound
from freehold.core.manifest import Details, Role
from freehold.formats.reading import bad_file, regular_file, shown
from freehold.formats.safetensors import SafetensorsHeader, read_header

MAX_JSON = 256 << 20
MAX_FILES = 4096
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
ROLES: dict[str, Role] = {
    CONFIG: "config",
    "generation_config.json": "generation_config",
    "tokenizer.json": "tokenizer",
    "tokenizer_config.json": "tokenizer_config",
    "chat_template.jinja": "chat_template",
    ADAPTER_CONFIG: "adapter_config",
    ADAPTER: "adapter",
    INDEX: "weights_index",
    "README.md": "card",
    "LICENSE": "licence",
    "LICENSE.txt": "licence",
    "LICENSE.md": "licence",
    # What tokenizers of older models need beside, or instead of, tokenizer.json.
    "added_tokens.json": "other",
    "chat_template.json": "other",
    "merges.txt": "other",
    "modules.json": "other",
    "1_Pooling.json": "other",
    "special_tokens_map.json": "other",
    "spiece.model": "other",
    "tokenizer.model": "other",
    "vocab.json": "other",
    "vocab.txt": "other",
}
NESTED = {"1_Pooling/config.json": "1_Pooling.json"}
"""Files in folders of a model's folder, and what they are called in the store, which has no folders."""
_JSON_ROLES: set[Role] = {"config", "generation_config", "tokenizer", "tokenizer_config", "adapter_config"}
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")


class Member(NamedTuple):
    """A file of the folder that belongs to the model. `path` is the file itself, behind a link too."""

    role: Role
    filename: str
    path: Path


class Inspected(NamedTuple):
    """A folder that is a model."""

    members: list[Member]
    details: Details


def plain_name(filename: str) -> bool:
    """Whether a file may be called this: no folder, no leading dot, nothing to escape."""
    return bool(_PLAIN.fullmatch(filename))


def inspect(folder: Path) -> Inspected:
    """The files of a model's folder, checked. Raises NotFound, and BadModelFile for whatever is wrong inside."""
    files = _regular_files(folder)
    if ADAPTER_CONFIG in files and CONFIG not in files:
        return _adapter(folder, files)
    if CONFIG not in files:
        raise bad_file(folder, f"has no {CONFIG}", _expected(files))
    config = read_json(files[CONFIG])
    headers = _weights(folder, files)
    if "tokenizer.json" not in files and not {"tokenizer.model", "vocab.json", "spiece.model"} & files.keys():
        raise bad_file(folder, "has no tokenizer.json", "Fetch the tokenizer's files too")
    members = _members({name: path for name, path in files.items() if name not in (ADAPTER, ADAPTER_CONFIG)})
    weights = [Member("weights", name, files[name]) for name in headers]
    return Inspected([*members, *weights], _details(files[CONFIG], config, headers))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises BadModelFile."""
    with regular_file(path) as (file, size):
        if size > MAX_JSON:
            raise bad_file(path, f"{size} bytes of JSON, more than {MAX_JSON}")
        data = file.read(MAX_JSON + 1)
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_file(path, f"not a JSON object: {error}") from error


def _regular_files(folder: Path) -> dict[str, Path]:
    """Name to real path of every file. Raises BadModelFile for pipes, devices, and links that leave the folder."""
    if not folder.exists():
        raise NotFound(f"no such folder: {shown(folder, 400)}", "Check the path")
    if not folder.is_dir():
        raise bad_file(folder, "not a folder", "Name the folder that holds config.json and the weights")
    roots = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":  # Hugging Face's cache links from snapshots/<commit>/ to blobs/
        # and its newer versions from there to the cache's own blobs/, which all repositories share
        repository = folder.resolve().parent.parent
        roots += [repository / "blobs", repository.parent / "blobs"]
    files: dict[str, Path] = {}
    for entry in (*(folder / name for name in NESTED if (folder / name).is_file()), *folder.iterdir()):
        path = _inside(entry, roots)
        if path is not None:
            files[NESTED.get(entry.relative_to(folder).as_posix(), entry.name)] = path
        if len(files) > MAX_FILES:
            raise bad_file(folder, f"holds more than {MAX_FILES} files", "Name a folder that holds one model")
    return files


def _inside(entry: Path, roots: list[Path]) -> Path | None:
    """The real file; None for a folder."""
    try:
        real = entry.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise bad_file(entry, "a link that leads nowhere", "Remove it or put the file there") from error
    if entry.is_symlink() and not any(real.is_relative_to(root) for root in roots):
        raise bad_file(entry, "a link that leaves the folder", "Put the file itself there")
    if stat.S_ISDIR(mode):
        return None
    if not stat.S_ISREG(mode):
        raise bad_file(entry, "neither a file nor a folder", "Remove it")
    return real


def _expected(files: Mapping[str, Path]) -> str:
    if any(name.endswith(".gguf") for name in files):
        return "Pull the .gguf file in it by its own path"
    return "Name a folder with config.json, tokenizer.json and model.safetensors, or with an adapter"


def _members(files: Mapping[str, Path]) -> list[Member]:
    members = [Member(ROLES[name], name, files[name]) for name in sorted(files) if name in ROLES]
    for member in members:
        if member.role in _JSON_ROLES:
            read_json(member.path)
    return members


def _weights(folder: Path, files: Mapping[str, Path]) -> dict[str, SafetensorsHeader]:
    """The headers of the weights' files. Raises BadModelFile when they are missing, pickled or do not fit together."""
    if INDEX in files:
        return _sharded(files)
    names = sorted(name for name in files if name.endswith(".safetensors") and name != ADAPTER)
    chosen = ["model.safetensors"] if "model.safetensors" in names else names
    if not chosen:
        raise _no_weights(folder, files)
    if len(chosen) > 1:
        raise bad_file(folder, f"has {len(chosen)} safetensors files and no {INDEX}", f"Fetch {INDEX} too")
    if not plain_name(chosen[0]):
        raise bad_file(folder, f"weights with the odd name {chosen[0]!r}", "Call the file model.safetensors")
    header = read_header(files[chosen[0]])
    if not header.tensors:
        raise bad_file(files[chosen[0]], "holds no weights")
    return {chosen[0]: header}


def _no_weights(folder: Path, files: Mapping[str, Path]) -> BadModelFile:
    pickles = sorted(name for name in files if Path(name).suffix in PICKLES)
    if pickles:
        remedy = "Pickles can run code and are never loaded: fetch the model's .safetensors files, or convert it first"
        return bad_file(folder / pickles[0], "weights in a pickle", remedy)
    return bad_file(folder, "has no weights", "Put model.safetensors there")


def _sharded(files: Mapping[str, Path]) -> dict[str, SafetensorsHeader]:
    index = files[INDEX]
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise bad_file(index, "weight_map is missing")
    shards: dict[str, SafetensorsHeader] = {}
    for tensor, name in placed.items():
        if not isinstance(name, str) or not plain_name(name) or not name.endswith(".safetensors"):
            raise bad_file(index, f"places tensor {tensor!r} in {shown(name)!r}, which is not a file beside it")
        if name not in files:
            raise bad_file(index, f"names {name}, which is missing", "Fetch all parts of the model")
        if name not in shards:
            shards[name] = read_header(files[name])
        if tensor not in shards[name].tensors:
            raise bad_file(index, f"tensor {tensor!r} is not in {name}", "Fetch index and parts of the same version")
    for name, header in shards.items():
        stray = next((tensor for tensor in header.tensors if placed.get(tensor) != name), None)
        if stray is not None:
            raise bad_file(
                index, f"does not place tensor {stray!r} of {name}", "Fetch index and parts of the same version"
            )
    return shards


def _adapter(folder: Path, files: Mapping[str, Path]) -> Inspected:
    config = read_json(files[ADAPTER_CONFIG])
    if ADAPTER not in files:
        raise _no_weights(folder, files)
    if not isinstance(config.get("peft_type"), str):
        raise bad_file(files[ADAPTER_CONFIG], "peft_type is missing")
    header = read_header(files[ADAPTER])
    if not header.tensors:
        raise bad_file(files[ADAPTER], "holds no weights")
    details = Details(parameters=header.parameters, quantization=header.dtype)
    return Inspected(_members(files), details)


def _details(path: Path, config: dict[str, Any], headers: Mapping[str, SafetensorsHeader]) -> Details:
    architecture = config.get("model_type")
    if not isinstance(architecture, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", architecture):
        raise bad_file(path, "model_type is missing or is not a name")
    inner = config.get("text_config")
    text = {**inner, **config} if isinstance(inner, dict) else config
    largest = max(headers.values(), key=lambda header: header.parameters)
    return Details(
        architecture=architecture,
        parameters=sum(header.parameters for header in headers.values()),
        quantization=largest.dtype,
        context_length=_number(path, text, "max_position_embeddings", "n_positions", "n_ctx"),
        embedding_length=_number(path, text, "hidden_size", "n_embd", "d_model"),
    )


def _number(path: Path, config: Mapping[str, Any], *keys: str) -> int:
    key = next((key for key in keys if config.get(key) is not None), None)
    value = config[key] if key else 0
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise bad_file(path, f"{key} is not a whole number of at least 0")
    return value
