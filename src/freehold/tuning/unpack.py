"""A GGUF base as a folder that the trainer reads: its texts beside a link to the file, which stays as it is."""

import json
from pathlib import Path
from typing import Any

from freehold.convert import origin
from freehold.formats.gguf import GgufHeader
from freehold.formats.gguf_values import GgufArray
from freehold.formats.reading import bad_file

FILE = "model.gguf"
_TEMPLATE = "chat_template.jinja"
_SPECIAL = ("bos", "eos", "padding", "unknown")
_NAMES = {"padding": "pad", "unknown": "unk"}


def unpack(base: Path, folder: Path) -> Path:
    """Make `folder` out of a GGUF file, or of a folder that holds one, perhaps with another chat template beside it.

    Raises NotFound, BadModelFile, and Unsupported for a family that is not known.
    """
    file = origin.gguf_in(base) or base
    found = origin.read(file)
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / FILE
    link.unlink(missing_ok=True)
    link.symlink_to(file.absolute())
    _write(folder / "config.json", found.config)
    _write(folder / "tokenizer_config.json", _tokens(found.header))
    _write(folder / "generation_config.json", {"eos_token_id": _ends(found.header)})
    (folder / _TEMPLATE).unlink(missing_ok=True)
    if template := _template(base, found.header):
        (folder / _TEMPLATE).write_text(template, "utf-8")
    return folder


def file_of(folder: Path) -> Path | None:
    """The GGUF file of such a folder; None for one of safetensors."""
    return folder / FILE if (folder / FILE).exists() else None


def _template(base: Path, header: GgufHeader) -> str:
    """The chat template; empty where there is none."""
    beside = base / _TEMPLATE
    if base.is_dir() and beside.exists():
        return beside.read_text("utf-8")
    template = header.metadata.get("tokenizer.chat_template", "")
    if not isinstance(template, str):
        raise bad_file(header.path, "tokenizer.chat_template is not a string")
    return template


def _tokens(header: GgufHeader) -> dict[str, str]:
    """The special tokens that a template may name."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, GgufArray):
        raise bad_file(header.path, "tokenizer.ggml.tokens is missing")
    found = {}
    for kind in _SPECIAL:
        key = f"tokenizer.ggml.{kind}_token_id"
        if key in header.metadata:
            id_ = header.number(key)
            if id_ >= len(tokens) or not isinstance(tokens[id_], str):
                raise bad_file(header.path, f"{key} is {id_}, of {len(tokens)} tokens")
            found[f"{_NAMES.get(kind, kind)}_token"] = tokens[id_]
    return found


def _ends(header: GgufHeader) -> list[int]:
    """The tokens that end an answer."""
    keys = (f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot"))
    return sorted({header.number(key) for key in keys if key in header.metadata})


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")
