"""Will it fit? What a GGUF model takes on the disk and in memory, here, and which quantisation of it would fit.

From the header alone, so that it can be asked before a model is fetched. Sizes of other quantisations follow from the
shapes of the tensors and are those of the files that `freehold quantize` writes, but for some bytes of header.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.convert.folder import prepare
from freehold.convert.mixture import PLAIN, target_types
from freehold.convert.types import TYPES, QuantType
from freehold.core.errors import NotFound, Unsupported
from freehold.core.settings import Settings
from freehold.engines.base import Fit
from freehold.engines.llamacpp import memory
from freehold.formats.ggml import TENSOR_TYPES
from freehold.formats.gguf import GgufHeader, TensorInfo, read_header
from freehold.formats.projector import Projector

CONTEXTS = (4096, 32768)
"""Tokens of context that are worth knowing about, beside the model's longest."""
OFFERED = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
"""Types worth offering, the best first."""
_KINDS = {kind.name: kind for kind in TENSOR_TYPES.values()}


class Candidate(msgspec.Struct, frozen=True):
    """Another quantisation of the same model."""

    quantization: str
    size: int
    """Bytes of the file."""
    fit: Fit
    """At the shortest of the contexts shown."""


class Outlook(msgspec.Struct, frozen=True):
    """What a model takes. `slots` conversations at a time share each context's figures."""

    size: int
    """Bytes of the file."""
    slots: int
    fits: tuple[Fit, ...]
    """For 4,096 and 32,768 tokens of context and the model's longest, as far as it goes."""
    smaller: tuple[Candidate, ...]
    """The other quantisations that are smaller, the best first."""

    @property
    def ok(self) -> bool:
        """Whether it fits at the shortest context."""
        return self.fits[0].ok

    @property
    def advice(self) -> Candidate | None:
        """The best smaller quantisation that would fit; None when the model fits, or nothing does."""
        return None if self.ok else next((each for each in self.smaller if each.fit.ok), None)


def outlook(header: GgufHeader, settings: Settings, projector: Projector | None = None) -> Outlook:
    """What the model with this header takes on this machine, with the projector that it sees images with.

    Raises BadModelFile when it lacks a dimension.
    """

    def fit(size: int, context: int) -> Fit:
        return memory.estimate(size, header.metadata, context, settings.parallel, projector=projector)

    size = header.file_size
    fits = tuple(fit(size, context) for context in _contexts(header))
    shortest = fits[0].context_length
    candidates = (
        Candidate(kind.name, bytes_, fit(bytes_, shortest)) for kind, bytes_ in quantised_sizes(header) if bytes_ < size
    )
    return Outlook(size, settings.parallel, fits, tuple(candidates))


def of_folder(folder: Path, settings: Settings) -> Outlook | None:
    """The same of what a folder of safetensors converts to; None for an adapter or a family that is not known here."""
    try:
        prepared = prepare(folder)
    except (Unsupported, NotFound):
        return None
    with tempfile.TemporaryDirectory(prefix="freehold-") as room:
        begin = Path(room, "model.gguf")
        begin.write_bytes(prepared.header)
        return outlook(read_header(begin, whole=prepared.size), settings)


def _contexts(header: GgufHeader) -> list[int]:
    """Contexts worth showing, rounded as llama.cpp does: those within what the model was trained for, and that."""
    trained = header.number("{arch}.context_length")
    wanted = [*CONTEXTS, *([trained] if trained else [])]
    return sorted({memory.context_per_slot(header.metadata, context) for context in wanted})


def quantised_sizes(header: GgufHeader) -> Iterator[tuple[QuantType, int]]:
    """How many bytes each type offered would take. A file that is quantised already is taken as if it were not."""
    plain = msgspec.structs.replace(header, tensors=[_unquantised(tensor) for tensor in header.tensors])
    for name in OFFERED:
        targets = target_types(plain, TYPES[name])
        yield (
            TYPES[name],
            header.data_offset + sum(_padded(_bytes(t, targets[t.name]), header.alignment) for t in plain.tensors),
        )


def _unquantised(tensor: TensorInfo) -> TensorInfo:
    if tensor.type in PLAIN or _KINDS[tensor.type].block == 1:
        return tensor
    return msgspec.structs.replace(tensor, type="F16")


def _bytes(tensor: TensorInfo, type_name: str) -> int:
    kind = _KINDS[type_name]
    return tensor.elements // kind.block * kind.size


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
