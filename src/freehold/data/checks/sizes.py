"""How many rows there are, and how long: in characters, and in the base's tokens where they are known."""

from collections.abc import Sequence
from itertools import pairwise

from freehold.data.checks import Check, Found, Material, Table, Value
from freehold.data.findings import Finding, finding
from freehold.data.rows import texts

_BOUNDS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def run(material: Material) -> Found:
    """Counts, quantiles, a histogram, and the rows that are too long."""
    characters = [sum(map(len, texts(row))) for row in material.rows]
    facts: dict[str, Value] = {"rows": len(material.rows), **_quantiles("characters", characters)}
    if material.held_out:
        facts["held_out.rows"] = len(material.held_out)
    lengths = [length for length in material.lengths if length]
    if not lengths:
        return Found(facts=facts, tables={"characters": histogram(characters)})
    facts |= {**_quantiles("tokens", lengths), "tokens.total": sum(lengths), "tokens.rows": len(lengths)}
    return Found(_too_long(material), facts, {"tokens": histogram(lengths)})


def _quantiles(name: str, values: Sequence[int]) -> dict[str, Value]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        f"{name}.median": ordered[last // 2],
        f"{name}.p95": ordered[round(last * 0.95)],
        f"{name}.longest": ordered[last],
    }


def histogram(values: Sequence[int]) -> Table:
    """Counts between powers of two, from the first to the last that has any."""
    edges = [0, *_BOUNDS, max(*values, *_BOUNDS) + 1]
    counts = [
        (f"{low:,}-{high - 1:,}" if high <= _BOUNDS[-1] else f"{low:,} or more", sum(low <= v < high for v in values))
        for low, high in pairwise(edges)
    ]
    held = [index for index, (_, count) in enumerate(counts) if count]
    return tuple(counts[held[0] : held[-1] + 1]) if held else ()


def _too_long(material: Material) -> tuple[Finding, ...]:
    most = material.max_length
    pairs = zip(material.rows, material.lengths, strict=True)
    long = [(row.line, f"{length:,} tokens") for row, length in pairs if most and length > most]
    text = f"row{{s}} {{are}} longer than {most:,} tokens and lose{{v}} the end"
    return (finding("length", "cut", text, long, material.unit),) if long else ()


CHECK = Check(10, run)
