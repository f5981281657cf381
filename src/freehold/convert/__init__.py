"""Turning models into GGUF: `to_gguf` for a safetensors folder, `quantize` for an unquantised GGUF file.

`adapter_to_gguf` does it for LoRA adapters.

A model family is one file in `families/`; it registers itself by being there. Outputs are the same bytes for the same
input, appear under their name only when complete, and need neither torch nor transformers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.convert.types import TYPES

if TYPE_CHECKING:
    from freehold.convert.imatrix import Importance


def to_gguf(folder: Path, out: Path, *, dtype: str = "auto", tools: Path | None = None) -> None:
    """Convert a folder of safetensors weights with its config and tokenizer to one GGUF file.

    `dtype` is that of matrices: "f32", "f16", "bf16", or "auto" (BF16 stays BF16, F16 and F32 become F16). Vectors are
    always F32. A family unknown here is left to llama.cpp's own converter (see `borrowed`), if its archive
    is in the folder `tools`. Raises BadModelFile, Unsupported, NotFound, DiskFull.
    """
    from freehold.convert import borrowed
    from freehold.convert.folder import prepare

    if tools is not None and (folder / "config.json").exists() and borrowed.needed(folder):
        borrowed.convert(folder, out, dtype, tools)
    else:
        prepare(folder, dtype).write(out)


def adapter_to_gguf(folder: Path, base: Path, out: Path, *, dtype: str = "auto") -> None:
    """Convert a folder of a PEFT LoRA adapter to a GGUF adapter for the model in the folder or GGUF file `base`.

    Raises BadModelFile, Unsupported, NotFound, DiskFull.
    """
    from freehold.convert.adapter import prepare

    prepare(folder, base, dtype).write(out)


def quantize(
    source: Path,
    out: Path,
    type_name: str,
    *,
    threads: int = 0,
    importance: "Importance | None" = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Quantise an F32, F16 or BF16 GGUF file to one of TYPES, with llama.cpp's choice of type for each tensor.

    `importance` (of the module `imatrix`) weighs errors by what the model's activations make of them. `threads` 0 means
    one for each core that this process may use; the bytes do not depend on it. `on_progress` gets (source bytes done,
    source bytes in all). Raises BadInput for a matrix of another model, BadModelFile, Unsupported, NotFound, DiskFull.
    """
    from freehold.convert.quantizer import quantize

    quantize(source, out, type_name, threads=threads, importance=importance, on_progress=on_progress)


__all__ = ["TYPES", "adapter_to_gguf", "quantize", "to_gguf"]
