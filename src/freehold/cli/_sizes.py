"""Sizes as people type them."""

import re
from fractions import Fraction

from freehold.core.errors import BadInput

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FORM = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes in `4GB` (powers of 1000) or `4GiB` (of 1024). Raises BadInput."""
    match = _FORM.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise BadInput(f"not a size: {text[:40]!r}", "Give one as in 700MB, 4GB or 4GiB")
    unit = _UNITS[match[2].upper()]
    if match[3]:
        unit = 1 << 10 * list(_UNITS).index(match[2].upper())
    return int(Fraction(match[1]) * unit)
