"""Which files of a repository make the model that was asked for."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from freehold.core.errors import BadInput, NotFound, Unsupported
from freehold.core.reference import is_quant, quant_in
from freehold.formats.reading import shown
from freehold.store import splits
from freehold.store.folders import ADAPTER, ADAPTER_CONFIG, CONFIG, INDEX, NESTED, PICKLES, ROLES, plain_name

PREFERRED = (
    "Q4_K_M", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_0", "Q4_1", "MXFP4", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0",
    "Q3_K_L", "Q3_K_M", "BF16", "F16", "FP16", "F32", "FP32",
)  # fmt: skip
"""Best first, for who names none: four bits for most people, then better quality, then what is larger still."""
_NOT_MODELS = ("mmproj", "imatrix")
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.safetensors")


class Model(NamedTuple):
    """One GGUF model of a repository: its files in order, and the type that their names spell."""

    quant: str
    files: tuple[str, ...]
    missing: str = ""
    """A part of it that the repository lacks."""

    def whole(self) -> "Model":
        """The model itself. Raises NotFound when a part is missing."""
        if self.missing:
            raise NotFound(f"the repository lacks {shown(self.missing)}, a part of the model", "Choose another type")
        return self


def quant_of(filename: str) -> str:
    """The quantisation type that a file's name spells, in capitals; empty when it spells none."""
    spelled = quant_in(splits.base(filename.rpartition("/")[2]))
    if spelled:
        return spelled
    folder = filename.rpartition("/")[0].rpartition("/")[2]
    return folder.upper() if is_quant(folder) else ""


def models(names: Iterable[str]) -> list[Model]:
    """The GGUF models among these files."""
    present = sorted(name for name in names if name.lower().endswith(".gguf"))
    found = []
    for name in present:
        number, count = splits.place(name)
        if number != 1 or any(word in name.rpartition("/")[2].lower() for word in _NOT_MODELS):
            continue
        files = tuple(splits.siblings(name)) if count > 1 else (name,)
        missing = next((file for file in files if file not in present), "")
        found.append(Model(quant_of(name), files, missing))
    return found


def choose(found: Sequence[Model], quant: str, label: str) -> tuple[Model, str]:
    """The model of this type, or the best one when none is named, and why. Raises NotFound, BadInput."""
    if quant:
        matching = [model for model in found if model.quant == quant.upper()]
    else:
        found = [model for model in found if not model.missing] or found
        best = min((_rank(model) for model in found), default=0)
        matching = [model for model in found if _rank(model) == best]
    if not matching:
        raise NotFound(f"{label} has no {shown(quant or 'GGUF model')}", f"It has {_types(found)}")
    if len(matching) > 1:
        names = ", ".join(shown(model.files[0]) for model in matching[:4])
        raise BadInput(
            f"{label} has {len(matching)} models of that type: {names}",
            f"Name one: hf://{label}//{shown(matching[0].files[0], 400)}",
        )
    return matching[0].whole(), f"{quant} was asked for" if quant else _why(found, matching)


def _why(found: Sequence[Model], matching: Sequence[Model]) -> str:
    if len(found) == 1:
        return "it is the only model there"
    return f"no type was named, and {matching[0].quant or 'this'} comes first of {_types(found)}"


def _rank(model: Model) -> int:
    plain = model.quant.removeprefix("UD-")
    return PREFERRED.index(plain) * 2 + (plain != model.quant) if plain in PREFERRED else 2 * len(PREFERRED)


def _types(found: Sequence[Model]) -> str:
    return ", ".join(sorted({model.quant or shown(model.files[0]) for model in found})[:30]) or "no GGUF file"


def folder_files(names: Iterable[str], label: str) -> list[str]:
    """The files of a safetensors model or adapter that are needed. Raises Unsupported, NotFound."""
    listed = set(names)
    top = {name for name in listed if plain_name(name)}
    known = [name for name in sorted(top) if name in ROLES]
    if ADAPTER_CONFIG in top and CONFIG not in top:
        if ADAPTER not in top:
            raise _no_weights(top, label)
        return known
    shards = sorted(name for name in top if _SHARD.fullmatch(name)) if INDEX in top else []
    weights = shards or [name for name in ("model.safetensors",) if name in top]
    if not weights or CONFIG not in top:
        raise _no_weights(top, label)
    left_out = {ADAPTER, ADAPTER_CONFIG} | ({INDEX} if not shards else set())
    nested = [path for path, called in NESTED.items() if path in listed and called not in top]
    return [*(name for name in known if name not in left_out), *nested, *weights]


def _no_weights(top: Iterable[str], label: str) -> Unsupported | NotFound:
    if any(name.endswith(tuple(PICKLES)) for name in top):
        return Unsupported(
            f"{label} has its weights in a pickle", "Pickles can run code: pull a safetensors or GGUF version"
        )
    return NotFound(f"{label} has no model that Freehold can use", "Pull a repository with GGUF or safetensors files")
