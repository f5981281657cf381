"""JSON from strangers: one reading that any other parser in the chain agrees with."""

import json
import math
import re
from itertools import accumulate
from typing import Any

from freehold.core.errors import BadInput

MAX_DEPTH = 64
# Ends at the end of the data too: else each quote in an unclosed string would be tried anew, in quadratic time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_OTHERS = bytes(set(range(256)) - _BRACKETS.keys())
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGITS = 20
"""Digits of the longest integer taken; no field of ours needs more than a signed 64-bit one has."""


def parse(data: bytes) -> Any:
    """The value that `data` holds.

    Raises BadInput for what parsers disagree about or choke on: broken UTF-8, deep nesting, duplicate keys, NaN and
    infinities, very long integers, halves of surrogate pairs.
    """
    _check_depth(data)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_short_int,
            parse_float=_finite,
        )
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"byte {error.start} is not UTF-8") from error
    except UnicodeEncodeError as error:
        raise _bad("a string holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise _bad(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except (RecursionError, MemoryError) as error:
        raise _bad("it is nested too deeply") from error
    return value


def _bad(what: str) -> BadInput:
    return BadInput(f"the body is not usable JSON: {what}", "Send one JSON object in UTF-8")


def _check_depth(data: bytes) -> None:
    brackets = _STRING.sub(b"", data).translate(None, _OTHERS)
    if max(accumulate(map(_BRACKETS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise _bad(f"it is nested deeper than {MAX_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _bad(f"the key {twice[:80]!r} occurs twice in one object")
    return found


def _no_constant(text: str) -> Any:
    raise _bad(f"{text} is not JSON")


def _short_int(text: str) -> int:
    if len(text) > _DIGITS:
        raise _bad(f"an integer has {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text) if len(text) <= 400 else math.inf
    if not math.isfinite(value):
        raise _bad("a number is too large")
    return value
