"""The quantisation types that can be asked for: llama.cpp's names, numbers and default tensor types (llama.h)."""

from typing import NamedTuple

from freehold.core.errors import Unsupported


class QuantType(NamedTuple):
    """A file type. `tensor` is the type of most matrices; the others follow from `mixture.target_types`."""

    name: str
    file_type: int
    tensor: str
    bits: float
    """Bits per weight of `tensor`; the whole file has a little more."""
    weighted: bool = False
    """So coarse that it needs an importance matrix."""


_ALL = (
    QuantType("F32", 0, "F32", 32.0),
    QuantType("F16", 1, "F16", 16.0),
    QuantType("BF16", 32, "BF16", 16.0),
    QuantType("Q8_0", 7, "Q8_0", 8.5),
    QuantType("Q6_K", 18, "Q6_K", 6.5625),
    QuantType("Q5_K_M", 17, "Q5_K", 5.5),
    QuantType("Q5_K_S", 16, "Q5_K", 5.5),
    QuantType("Q5_1", 9, "Q5_1", 6.0),
    QuantType("Q5_0", 8, "Q5_0", 5.5),
    QuantType("Q4_K_M", 15, "Q4_K", 4.5),
    QuantType("Q4_K_S", 14, "Q4_K", 4.5),
    QuantType("Q4_1", 3, "Q4_1", 5.0),
    QuantType("Q4_0", 2, "Q4_0", 4.5),
    QuantType("Q3_K_L", 13, "Q3_K", 3.4375),
    QuantType("Q3_K_M", 12, "Q3_K", 3.4375),
    QuantType("Q3_K_S", 11, "Q3_K", 3.4375),
    QuantType("Q2_K", 10, "Q2_K", 2.625),
    QuantType("Q2_K_S", 21, "Q2_K", 2.625, weighted=True),
)

TYPES: dict[str, QuantType] = {kind.name: kind for kind in _ALL}


def quant_type(name: str) -> QuantType:
    """The type called `name`, in any case of letters. Raises Unsupported."""
    kind = TYPES.get(name.upper())
    if kind is None:
        raise Unsupported(f"quantisation type {name!r} is not supported", f"Use one of: {', '.join(TYPES)}")
    return kind
