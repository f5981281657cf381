"""Bases in and models out: folders as transformers reads them, the base's own tokenizer files kept byte for byte."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from freehold.convert import tokenizer as companions
from freehold.core.errors import BadInput, BadModelFile
from freehold.engines.llamacpp.vocabulary import vocabulary
from freehold.tuning import files
from freehold.tuning.decoder.common import Common
from freehold.tuning.decoder.gguf import open_gguf
from freehold.tuning.decoder.model import Decoder
from freehold.tuning.decoder.nf4 import open_nf4
from freehold.tuning.decoder.rope import read_ropes
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.decoder.weights import Weights, open_weights, shards
from freehold.tuning.job import BaseDtype
from freehold.tuning.unpack import file_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from freehold.tuning.render import Encoder

_COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def chat_template(folder: Path, *, needed: bool = True) -> tuple[str, dict[str, str]]:
    """The base's template and the special tokens it may name. Raises BadModelFile for none where one is `needed`."""
    config = _json(folder / "tokenizer_config.json")
    names = {key: _token(config.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    template = companions.chat_template(folder)
    if needed and not template:
        raise BadModelFile(
            f"{folder} has no chat template", "Use an instruction-tuned base, or add chat_template.jinja"
        )
    return template, names


def tokenizer(folder: Path) -> "Tokenizer":
    """The base's tokenizer. Raises BadModelFile."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadModelFile(
            f"cannot read {path}: {error}", "The base needs a fast tokenizer (tokenizer.json)"
        ) from error


@contextmanager
def encoder(folder: Path) -> "Iterator[Encoder]":
    """What makes tokens of text for the base: of a GGUF file llama.cpp itself. Raises BadModelFile, Unsupported."""
    file = file_of(folder)
    if file is None:
        yield tokenizer(folder)
        return
    with vocabulary(file) as found:
        yield found


def load(
    folder: Path,
    device: torch.device,
    compute: torch.dtype,
    *,
    full: bool,
    checkpointing: bool = False,
    offload: bool = False,
    int8: bool = False,
    base_dtype: BaseDtype = "stored",
    resident: bool | None = None,
    common: Common | None = None,
) -> Decoder:
    """The base, ready to be trained as a whole or to have adapters put beside it. Raises BadModelFile, Unsupported.

    `resident` says whether the device itself dequantises; None leaves it to the kind of device. In `common` processes
    that are forked later dequantise together.
    """
    shape = Shape.read(folder)
    weights, ropes = _weights(folder, device, base_dtype, resident, common), read_ropes(folder, shape)
    divisors = weights.frequencies(shape.head_dim // 2)
    return Decoder(
        shape,
        weights,
        ropes if divisors is None else {kind: rope.divided(divisors) for kind, rope in ropes.items()},
        compute=compute,
        device=device,
        full=full,
        checkpointing=checkpointing,
        offload=offload,
        int8=int8,
    )


def _weights(
    folder: Path, device: torch.device, dtype: BaseDtype, resident: bool | None, common: Common | None
) -> Weights:
    file, threads = file_of(folder), torch.get_num_threads()
    if file is None and dtype == "stored":
        return open_weights(folder)
    if file is None:
        return open_nf4(folder, threads, device, resident=resident, common=common)
    if dtype != "stored":
        raise BadInput(f"the base is a GGUF file, which is not quantised to {dtype} again", "Leave out base_dtype")
    return open_gguf(file, threads, device, resident=resident, common=common)


def ends(folder: Path, encoder: "Encoder") -> set[int]:
    """The tokens that end an answer, by generation_config.json and the tokenizer. Raises BadModelFile for none."""
    found = ends_if_any(folder, encoder)
    if not found:
        raise BadModelFile(f"{folder} names no token that ends an answer", "Add eos_token to tokenizer_config.json")
    return found


def ends_if_any(folder: Path, encoder: "Encoder") -> set[int]:
    """The same; none where none is named."""
    given = _json(folder / "generation_config.json").get("eos_token_id")
    found = {each for each in (given if isinstance(given, list) else [given]) if isinstance(each, int)}
    named = encoder.token_to_id(_token(_json(folder / "tokenizer_config.json").get("eos_token")))
    return found | (set() if named is None else {named})


def weights_size(folder: Path) -> int:
    """Bytes of a base's weights. Raises BadModelFile."""
    file = file_of(folder)
    return sum(path.stat().st_size for path in (shards(folder) if file is None else [file]))


def save(trained: Mapping[str, nn.Parameter], base: Path, out: Path) -> None:
    """Write weights as bfloat16 and the base's other files beside them."""
    config = _json(base / "config.json")
    tensors = {name: value.detach().to(torch.bfloat16).cpu().contiguous() for name, value in sorted(trained.items())}
    out.mkdir(parents=True, exist_ok=True)
    copy_companions(base, out)
    files.write(tensors, out / "model.safetensors", {"format": "pt"})
    config["dtype"] = "bfloat16"
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def copy_companions(base: Path, out: Path) -> None:
    """Copy configuration, tokenizer and chat template, unchanged."""
    for name in _COPIED:
        if (base / name).exists():
            shutil.copyfile(base / name, out / name)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadModelFile(f"cannot read {path}: {error}", "Check that the folder is complete") from error
    if not isinstance(value, dict):
        raise BadModelFile(f"{path} is not a JSON object", "Check that the folder is complete")
    return value


def _token(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
