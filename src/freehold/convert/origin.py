"""What a GGUF file was converted from: the config.json, and the folder's names and row orders of its tensors.

The families' own plans, read the other way round.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from freehold.convert.config import Config
from freehold.convert.families import family, of_gguf
from freehold.convert.keys import Keys
from freehold.convert.plan import FamilyPlan
from freehold.convert.rope import read_back
from freehold.convert.weights import StoredTensor, Weights
from freehold.core.errors import Unsupported
from freehold.formats.gguf import GgufHeader, read_header
from freehold.formats.reading import bad_file, shown

FREQUENCIES = "rope_freqs.weight"
"""What rotary frequencies are divided by. How it was made is not in the file, so no config.json can say it."""
_OUTPUT = "output.weight"
_ALIGNMENT = 8


class Origin(NamedTuple):
    """A model's file, the config.json that it stands for, and the plan by which the two belong together."""

    header: GgufHeader
    config: dict[str, Any]
    plan: FamilyPlan


def gguf_in(path: Path) -> Path | None:
    """The GGUF file that `path` is, or that a folder without config.json holds alone; None for another model."""
    if path.is_file():
        return path
    found = sorted(path.glob("*.gguf")) if path.is_dir() and not (path / "config.json").exists() else []
    return found[0] if len(found) == 1 else None


def read(path: Path) -> Origin:
    """Look at a GGUF file of a model. Raises NotFound, BadModelFile, and Unsupported for a family that is not known."""
    header = read_header(path)
    if (kind := header.metadata.get("general.type", "model")) != "model":
        raise bad_file(path, f"of type {shown(kind)}, not a model", "Name the file of the model itself")
    if header.number("split.count", 1) > 1:
        raise Unsupported(f"{shown(path, 400)} is one part of a split model", "Merge the parts into one file first")
    if header.alignment % _ALIGNMENT:
        raise Unsupported(f"{shown(path, 400)} aligns its tensors to {header.alignment} bytes", "Convert it again")
    keys = Keys(header)
    written = of_gguf(header.architecture)
    config = {**_common(keys), **written.config(keys)}
    plan = family(Config(path, config)).plan(Config(path, config), _AsAsked(path, {}))
    _check(keys, plan)
    return Origin(header, config, plan)


def _common(keys: Keys) -> dict[str, Any]:
    """What every family's config.json has."""
    if "token_embd.weight" not in keys.tensors:
        raise keys.bad("tensor token_embd.weight is missing")
    hidden, heads = keys.integer("embedding_length"), keys.integer("attention.head_count")
    head_dim = keys.integer("attention.key_length", max(1, hidden // heads))
    if keys.integer("attention.value_length", head_dim) != head_dim:
        raise Unsupported(f"{shown(keys.header.path, 400)}: keys and values differ in size", "Use another model")
    return {
        "vocab_size": keys.tensors["token_embd.weight"].shape[-1],
        "hidden_size": hidden,
        "intermediate_size": keys.integer("feed_forward_length"),
        "num_hidden_layers": keys.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": keys.integer("context_length"),
        "tie_word_embeddings": _OUTPUT not in keys.tensors,
        "hidden_act": "silu",
        "rope_parameters": read_back(keys, head_dim),
    }


class _AsAsked(Weights):
    """Stands for a folder that has every tensor a plan asks for: whether the file has them is checked afterwards."""

    def expect(self, name: str, shape: Sequence[int]) -> StoredTensor:
        return StoredTensor(name, self.folder, "F32", tuple(shape), 0)


def _check(keys: Keys, plan: FamilyPlan) -> None:
    """Raises BadModelFile unless the file has the plan's tensors in their shapes, Unsupported when it has others."""
    wanted = {tensor.name: tensor.shape[::-1] for tensor in plan.tensors}
    if plan.architecture == "llama" and FREQUENCIES in keys.tensors:
        wanted[FREQUENCIES] = (keys.integer("rope.dimension_count", _head_dim(keys)) // 2,)
    for name, shape in wanted.items():
        found = keys.tensors.get(name)
        if found is None:
            raise keys.bad(f"tensor {name} is missing")
        if found.shape != shape:
            raise keys.bad(f"tensor {name} has shape {list(found.shape)}, its metadata says {list(shape)}")
    other = next((name for name in keys.tensors if name not in wanted), None)
    if other is not None:
        raise Unsupported(
            f"{shown(keys.header.path, 400)}: tensor {shown(other)} has no place in a {plan.architecture}",
            "Use another model",
        )


def _head_dim(keys: Keys) -> int:
    heads = keys.integer("attention.head_count")
    return keys.integer("attention.key_length", max(1, keys.integer("embedding_length") // heads))
