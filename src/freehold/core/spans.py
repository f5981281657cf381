"""Spans of time as people and Go write them."""

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"(\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})(ns|us|µs|ms|s|m|h)", re.ASCII)


def seconds(text: str) -> float:
    """Of `1h30m`, `45s`, `-5m`, or a plain number of seconds. Raises ValueError."""
    plain = text.strip()
    sign = -1.0 if plain.startswith("-") else 1.0
    plain = plain[1:] if plain.startswith(("+", "-")) else plain
    if re.fullmatch(r"\d{1,12}(\.\d{0,9})?", plain, re.ASCII):
        return sign * float(plain)
    pieces = _PIECE.findall(plain)
    if not pieces or "".join(number + unit for number, unit in pieces) != plain:
        raise ValueError(f"{text[:40]!r} is no span of time")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in pieces)
